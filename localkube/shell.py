"""Running other programs, and saying what is going on."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING

from localkube.places import LocalkubeError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

_lock = threading.Lock()
_started = time.monotonic()
# Set by Ctrl-C: clusters start on threads, which get no signal of their own.
interrupted = threading.Event()


def say(text: str) -> None:
    """One line of progress, to stderr: stdout is for answers."""
    with _lock:
        print(f"[{time.monotonic() - _started:5.1f} s] {text}", file=sys.stderr, flush=True)


def run(
    command: Sequence[str | Path], *, text: str | None = None, check: bool = True, timeout: float = 300
) -> str:
    """Run to the end and give back what was printed; an error carries the program's own words."""
    words = [str(word) for word in command]
    try:
        done = subprocess.run(words, input=text, capture_output=True, text=True, timeout=timeout)
    except FileNotFoundError as error:
        raise LocalkubeError(f"'{words[0]}' is not installed: install it and try again") from error
    except subprocess.TimeoutExpired as error:
        raise LocalkubeError(
            f"'{' '.join(words[:4])}' did not end within {timeout:.0f} s: try again"
        ) from error
    if check and done.returncode != 0:
        last = (done.stderr or done.stdout).strip()[-2000:]
        raise LocalkubeError(f"'{' '.join(words)}' failed:\n{last}")
    return done.stdout


def succeeds(command: Sequence[str | Path], timeout: float = 60) -> bool:
    """Whether the program ends well; its words do not matter."""
    try:
        done = subprocess.run([str(word) for word in command], capture_output=True, timeout=timeout)
    except (FileNotFoundError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


def wait_for(
    what: str, ready: Callable[[], bool], timeout: float, alive: Callable[[], None] | None = None
) -> None:
    """Ask until it is so. `alive` raises when waiting on has become pointless."""
    deadline = time.monotonic() + timeout
    pause = 0.05
    while not ready():
        if alive is not None:
            alive()
        if interrupted.is_set():
            raise LocalkubeError(f"{what}: interrupted")
        if time.monotonic() > deadline:
            raise LocalkubeError(
                f"{what}: not within {timeout:.0f} s; run `up` again to go on, `down` to give up"
            )
        time.sleep(pause)
        pause = min(0.4, pause * 1.3)
