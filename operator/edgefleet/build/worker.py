"""The child process in which models are parsed, quantized and run.

    python -m edgefleet.build.worker TASK.json

The task names an operation, its files and a memory limit; the answer is written to the task's `answer` file as
`{"ok": …}` or `{"reason": …, "message": …}`. No answer means the process died.
"""

import json
import resource
import sys
from pathlib import Path
from typing import Any

from edgefleet.build.errors import BuildError, ModelCrashed, ModelOutOfMemory


def main() -> None:
    """Do one task."""
    task = json.loads(Path(sys.argv[1]).read_text())
    _limit(task["memoryBytes"])
    try:
        answer: dict[str, Any] = {"ok": _do(task)}
    except BuildError as error:
        answer = {"reason": error.reason, "message": str(error)}
    except MemoryError as error:
        answer = {"reason": ModelOutOfMemory.reason, "message": str(error)}
    except Exception as error:  # noqa: BLE001 - whatever a hostile model provokes becomes a refusal
        kind = ModelOutOfMemory if _out_of_memory(error) else ModelCrashed
        answer = {"reason": kind.reason, "message": f"{type(error).__name__}: {error}"[:2000]}
    Path(task["answer"]).write_text(json.dumps(answer))


def _limit(memory: int) -> None:
    """Let allocations beyond the limit fail rather than the machine."""
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _do(task: dict[str, Any]) -> Any:
    # each operation imports only what it needs: the memory of `run` is measured
    match task["operation"]:
        case "inspect":
            from edgefleet.build import inspecting

            return inspecting.inspect(Path(task["model"]))
        case "run":
            from edgefleet.build import running

            return running.run(Path(task["model"]), Path(task["inputs"]), Path(task["outputs"]))
        case "quantize":
            from edgefleet.build import inspecting, quantizing

            quantizing.quantize(
                Path(task["model"]), task["method"], Path(task["inputs"]), Path(task["result"])
            )
            return inspecting.inspect(Path(task["result"]))
        case other:
            raise ModelCrashed(f"unknown operation {other!r}")


def _out_of_memory(error: Exception) -> bool:
    text = str(error).lower()
    return "bad_alloc" in text or "failed to allocate" in text or "bad allocation" in text


if __name__ == "__main__":
    main()
