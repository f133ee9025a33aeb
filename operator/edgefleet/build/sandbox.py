"""Starts `edgefleet.build.worker` with limits and turns its fate into an answer or an error."""

import json
import os
import signal
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from edgefleet.build.errors import BY_REASON, ModelCrashed, ModelOutOfMemory, ModelTimedOut

_LAST_WORDS: Final = 1500
_PASSED_ON: Final = ("PATH", "HOME", "PYTHONPATH", "PYTHONUSERBASE", "LD_LIBRARY_PATH")
"""What Python needs to find itself; credentials of a build server stay out."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What a model may use while it is checked, quantized and run."""

    seconds: float = 300.0
    """Wall-clock time of one operation."""
    memory_bytes: int = 6 << 30
    """Address space of the process."""


def work(limits: Limits, operation: str, **parameters: str) -> Any:
    """Run one operation in a child process. Raises BuildError."""
    with tempfile.TemporaryDirectory(prefix="edgefleet-work-") as name:
        folder = Path(name)
        answer, task = folder / "answer.json", folder / "task.json"
        task.write_text(
            json.dumps(
                {
                    "operation": operation,
                    "memoryBytes": limits.memory_bytes,
                    "answer": str(answer),
                    **parameters,
                }
            )
        )
        noise = _run(limits, operation, task, folder)
        try:
            found = json.loads(answer.read_text())
        except (OSError, ValueError) as error:
            raise ModelCrashed(f"the process died during {operation} without an answer: {noise}") from error
    if "ok" in found:
        return found["ok"]
    raise BY_REASON.get(found["reason"], ModelCrashed)(found["message"])


def _run(limits: Limits, operation: str, task: Path, folder: Path) -> str:
    """Wait for the child; kill it and all it started when time is over. Returns the end of what it printed."""
    log = folder / "log"
    with log.open("wb") as sink:
        child = subprocess.Popen(  # noqa: S603 - our own interpreter and module
            [sys.executable, "-m", "edgefleet.build.worker", str(task)],
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=sink,
            cwd=folder,
            env={
                "TMPDIR": str(folder),
                "ORT_DISABLE_TELEMETRY": "1",
                **{name: os.environ[name] for name in _PASSED_ON if name in os.environ},
            },
            start_new_session=True,
        )
        try:
            code = child.wait(timeout=limits.seconds)
        except subprocess.TimeoutExpired as error:
            raise ModelTimedOut(
                f"{operation} did not end within {limits.seconds:g} s (--time-limit); an endless loop?"
            ) from error
        finally:
            if child.poll() is None:
                os.killpg(child.pid, signal.SIGKILL)
                child.wait()
    noise = log.read_bytes()[-_LAST_WORDS:].decode(errors="replace").strip()
    if code and ("MemoryError" in noise or "bad_alloc" in noise or code == -signal.SIGKILL):
        raise ModelOutOfMemory(
            f"{operation} needs more than {limits.memory_bytes >> 20} MiB (--memory-limit)"
        )
    if code < 0:
        raise ModelCrashed(f"{operation} brought its process down by {signal.Signals(-code).name}: {noise}")
    return noise
