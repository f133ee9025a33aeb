"""What docs/protocols.md shows does work."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from edgepod.contract import HealthDocument, ServingDocument, TrafficLease
from support import onnx_models
from support.docs_blocks import command_blocks

PAGE = Path(__file__).parents[2] / "docs" / "protocols.md"


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port: int = listening.getsockname()[1]
        return port


def test_the_pages_commands_run_and_its_client_too(tmp_path: Path) -> None:
    onnx_models.pair(tmp_path / "digits.onnx")
    port = str(_free_port())
    shell = [block.commands.replace("8080", port) for block in command_blocks(PAGE)]
    python = next(block for block in _fenced("python"))
    (tmp_path / "ask.py").write_text(
        python.replace("8080", port).replace(
            "with Client", "import numpy\nx = numpy.ones((1, 2), 'f4')\nwith Client"
        )
        + "\n    print(answer.raw_bytes, 'in all')\n"
    )
    script = "\n".join(["set -e", "trap 'kill -9 $(jobs -p)' EXIT", *shell, f"{sys.executable} ask.py"])
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    done = subprocess.run(
        ["bash", "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    said = done.stdout
    assert '"platform":"onnxruntime_onnx"' in said
    assert '"data":[1.0,2.0]' in said
    assert "inference-header-content-length" in said
    assert "in all" in said


def _fenced(language: str) -> list[str]:
    return [
        part.split("```")[0].removeprefix(f"{language}\n")
        for part in PAGE.read_text().split("\n```")[1:]
        if part.startswith(f"{language}\n")
    ]


@pytest.mark.parametrize(
    ("marker", "document"),
    [("minBytes", ServingDocument), ("startId", HealthDocument), ("maxConsecutiveFailures", TrafficLease)],
)
def test_the_pages_documents_are_what_the_contract_reads(marker: str, document: type) -> None:
    (text,) = [text for text in _fenced("json") if marker in text]
    read = document.from_json(text)  # type: ignore[attr-defined]  # three classes with the same door
    shown, written = json.loads(text), json.loads(read.to_json())
    assert shown.keys() <= written.keys()
    assert {key: written[key] for key in shown} == shown
