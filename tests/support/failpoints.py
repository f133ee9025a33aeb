"""The operator with its writes watched: dies by SIGKILL right before or right after chosen ones.

    python -m support.failpoints PLAN [operator's arguments]

PLAN is a folder. `points` in it lists where to die, one `before KIND` or `after KIND` a line; a point is taken
off the list before the death, so that the next life gets past it. `seen` collects every kind of write that came
up, `life` holds the process id of the present life for whoever wants to end it at a moment of his own. Nothing in
the product knows of this.

Each life is a fork of a parent that has done the imports, which are most of what a start costs; it does nothing
else before the fork.
"""

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

from edgefleet.kube.transport import Transport


def kind_of(method: str, path: str, body: Any) -> str:
    """What a write is: verb, resource and what it says, without names and numbers."""
    words = path.strip("/").split("/")
    words = words[2:] if words[0] == "api" else words[3:]
    if words[0] == "namespaces" and len(words) > 2:
        words = words[2:]
    resource = "/".join([words[0], *words[2:]])
    return " ".join([method, resource, *_said(body or {})])


def _said(body: Any) -> list[str]:
    status, spec, meta = (body.get(part) or {} for part in ("status", "spec", "metadata"))
    said = [str(status["outcome"])] if status.get("outcome") else []
    said += [str(c["reason"]) for c in status.get("conditions") or () if c["type"] in ("Ready", "Approved")]
    said += [str(spec[key]) for key in ("state", "mode") if isinstance(spec.get(key), str)]
    said += sorted(meta.get("annotations") or ())
    if "finalizers" in meta:
        said.append("hold" if meta["finalizers"] else "let go")
    return said


def watch(plan: Path) -> None:
    """Put the watch between the product and the network."""
    call = Transport.call

    async def watched(self: Transport, method: str, path: str, query: Any, body: Any, *rest: Any) -> Any:
        if method == "GET":
            return await call(self, method, path, query, body, *rest)
        kind = kind_of(method, path, body)
        _note(plan, kind)
        _die_at(plan, f"before {kind}")
        answer = await call(self, method, path, query, body, *rest)
        _die_at(plan, f"after {kind}")
        return answer

    Transport.call = watched  # type: ignore[method-assign, assignment]


def _note(plan: Path, kind: str) -> None:
    seen = plan / "seen"
    known = seen.read_text().splitlines() if seen.exists() else []
    if kind not in known:
        seen.write_text("\n".join([*known, kind]) + "\n")


def _die_at(plan: Path, point: str) -> None:
    points = plan / "points"
    left = points.read_text().splitlines() if points.exists() else []
    if point in left:
        left.remove(point)
        points.write_text("\n".join(left))
        os.kill(os.getpid(), signal.SIGKILL)


def lives(plan: Path, be: Callable[[], None], *, watched: bool = True) -> int:
    """Fork lives until one ends by itself; returns its exit code. Without `watched` they die only by others' hands."""
    stopped = False

    def stop(_number: int, _frame: FrameType | None) -> None:
        nonlocal stopped
        stopped = True
        os.kill(child, signal.SIGTERM)

    while True:
        child = os.fork()
        if child == 0:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            if watched:
                watch(plan)
            be()
            os._exit(0)
        signal.signal(signal.SIGTERM, stop)
        (plan / "life.new").write_text(str(child))
        (plan / "life.new").replace(plan / "life")  # whoever reads it reads all of it
        _, status = os.waitpid(child, 0)
        code = os.waitstatus_to_exitcode(status)
        if code != -signal.SIGKILL or stopped:
            return code
        with (plan / "deaths").open("a") as deaths:
            deaths.write("killed\n")


if __name__ == "__main__":
    from edgefleet.handlers.main import main

    sys.exit(lives(Path(sys.argv[1]), lambda: main(sys.argv[2:])))
