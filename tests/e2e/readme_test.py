"""Every command block of the README is run here, or says above itself why not."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.clusters import need_localkube, scratch
from support.docs_blocks import Block, command_blocks

from demo import bundles, images, local
from demo.cluster import ROOT, tool

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]

README = list(command_blocks(ROOT / "README.md"))
BOX = "readme-box"
"""A cluster that is hub and site at once."""


def _named(name: str) -> list[Block]:
    return [block for block in README if block.run_by == name]


def _sh(script: str, folder: Path, **variables: str) -> str:
    """Run commands as a reader would: in a shell, from the top of a checkout, tools on PATH."""
    path = os.pathsep.join(map(str, [ROOT / ".venv" / "bin", _tools()]))
    env = {**os.environ, "PATH": f"{path}{os.pathsep}{os.environ['PATH']}", **variables}
    script = f"set -euo pipefail -m\n{script}"
    done = subprocess.run(
        ["bash", "-c", script], cwd=folder, env=env, text=True, capture_output=True, timeout=600, check=False
    )
    assert done.returncode == 0, f"{script}\n--- ended with {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def _tools() -> Path:
    """A folder with kubectl and helm, wherever the demo has them from."""
    folder = scratch("tools")
    for name in ("kubectl", "helm"):
        words = " ".join(tool(name))
        (folder / name).write_text(f'#!/bin/sh\nexec {words} "$@"\n')
        (folder / name).chmod(0o755)
    return folder


@pytest.fixture
def checkout(request: pytest.FixtureRequest) -> Path:
    """A folder that looks like the checkout, so that what the commands leave stays out of it."""
    folder = scratch(request.node.name)
    shutil.rmtree(folder)
    folder.mkdir()
    for entry in ROOT.iterdir():
        if entry.name not in ("build", ".git"):
            (folder / entry.name).symlink_to(entry)
    return folder


@pytest.fixture
def box() -> Iterator[dict[str, str]]:
    """A fresh cluster with both images, and what the README leaves to its reader."""
    need_localkube()
    local.localkube("up", BOX)
    try:
        local.localkube("registry", "up", "--listen", local.REGISTRY)
        for archive in images.build(print, release=True).archives:
            local.localkube("load-image", BOX, "--archive", str(archive))
        kubeconfig = str(local.cluster(BOX).kubeconfig)
        yield {
            "KUBECONFIG": kubeconfig,
            "HUB_SERVER": "https://kubernetes.default.svc",
            "REGISTRY": local.REGISTRY,
        }
    finally:
        if not os.environ.get("KEEP"):
            local.localkube("down", BOX)


def test_every_block_says_what_runs_it_or_why_nothing_does() -> None:
    assert README
    for page in (ROOT / "README.md", *(ROOT / "docs").glob("*.md")):
        for block in command_blocks(page):
            assert block.run_by or block.not_run, (
                f"{block.page}:{block.line}: a block without a comment above it"
            )
    assert {block.run_by for block in README if block.run_by} == {"story", "pod", "install"}


def test_the_two_commands_of_the_demo_are_the_ones_the_story_runs() -> None:
    assert [block.commands for block in _named("story")] == ["sudo make demo", "sudo make demo-down"]


def test_the_pod_serves_and_answers_as_written(checkout: Path) -> None:
    (block,) = _named("pod")
    assert '"data":[1.0,2.0,3.0]' in _sh(block.commands, checkout)


def test_hub_site_and_model_install_as_written(checkout: Path, box: dict[str, str]) -> None:
    shutil.copy(bundles.train() / "v1.onnx", checkout / "model.onnx")
    shutil.copy(bundles.FOLDER / "golden.npz", checkout / "golden.npz")
    said = _sh("\n".join(block.commands for block in _named("install")), checkout, **box)
    for kind in ("edgemodel", "edgesite", "edgerollout", "edgedeployment", "edgeagent"):
        assert f"{kind}.edgefleet.dev/" in said
    serving = _sh(
        "kubectl get efd -n edgefleet-models default.digits -o jsonpath={.status.stage}", checkout, **box
    )
    assert serving == "Serving"
