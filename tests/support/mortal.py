"""Runs operator or agent in many lives: SIGKILL right before and right after each kind of write it makes.

    python mortal.py edgefleet.agent.main:main [arguments]

The first process (kept alive, so that no back-off of the kubelet slows the test) starts the second, which is the
product with its writes watched: requests to API servers that change something, and files moved into place. The
first time a kind of write comes up it dies before it; the next life dies after it. What counts as a kind is in
`_kind`. Every death is printed. Standard library only: it is mounted into the product's own image.
"""

import importlib
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from types import FrameType
from typing import Any

RECORD = Path(tempfile.gettempdir()) / "deaths"


def parent(arguments: list[str]) -> int:
    """Start lives until one ends by itself."""
    child: subprocess.Popen[bytes] | None = None

    def forward(number: int, _frame: FrameType | None) -> None:
        if child is not None:
            child.send_signal(number)

    signal.signal(signal.SIGTERM, forward)
    while True:
        child = subprocess.Popen([sys.executable, __file__, "--life", *arguments])
        code = child.wait()
        if code != -signal.SIGKILL:
            return code


def live(entry: str, arguments: list[str]) -> None:
    """Be the product, with its writes watched."""
    from edgefleet.kube.transport import Transport

    call, replace = Transport.call, os.replace

    async def watched_call(self: Transport, method: str, path: str, query: Any, body: Any, *rest: Any) -> Any:
        if method == "GET" or _heartbeat(path):
            return await call(self, method, path, query, body, *rest)
        kind = _kind(method, path, body)
        _die_once(f"before {kind}")
        answer = await call(self, method, path, query, body, *rest)
        _die_once(f"after {kind}")
        return answer

    def watched_replace(source: Any, target: Any, **options: Any) -> None:
        kind = f"file {_shape(Path(target).name)}"
        _die_once(f"before {kind}")
        replace(source, target, **options)
        _die_once(f"after {kind}")

    Transport.call = watched_call  # type: ignore[method-assign, assignment]
    os.replace = watched_replace  # type: ignore[assignment]
    module, _, function = entry.partition(":")
    sys.argv = [function, *arguments]
    getattr(importlib.import_module(module), function)()


def _heartbeat(path: str) -> bool:
    return "/leases/" in path or path.endswith("/events")


def _kind(method: str, path: str, body: Any) -> str:
    """What a write is, names and numbers left out; a report also by its stage, a verdict by its reason."""
    status = (body or {}).get("status") or {}
    said = [str(status["stage"])] if status.get("stage") else []
    if not said:
        said = [
            str(each.get("reason", ""))
            for each in status.get("conditions") or []
            if each.get("type") == "Ready"
        ]
    selector = ((body or {}).get("spec") or {}).get("selector")
    return " ".join([method, _shape(path), *said, *(["selector"] if selector else [])])


def _shape(path: str) -> str:
    """`/apis/batch/v1/namespaces/x/jobs/y` → `jobs`; a hash in a file's name → `…`."""
    words = path.strip("/").split("/")
    if words[0] in ("api", "apis"):
        words = words[2 if words[0] == "api" else 3 :]
        if words[0] == "namespaces" and len(words) > 2:
            words = words[2:]
        words = [words[0], *words[2:]]
    return re.sub(r"[0-9a-f]{8,}", "…", "/".join(words))


def _die_once(point: str) -> None:
    seen = RECORD.read_text().splitlines() if RECORD.exists() else []
    if point in seen:
        return
    with RECORD.open("a") as record:
        record.write(point + "\n")
        record.flush()
        os.fsync(record.fileno())
    print(json.dumps({"died": point}), flush=True)
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    if sys.argv[1] == "--life":
        live(sys.argv[2], sys.argv[3:])
    else:
        sys.exit(parent(sys.argv[1:]))
