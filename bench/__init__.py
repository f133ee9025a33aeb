"""One file per figure: `make bench NAME=…` prints JSON lines. What ran where stands in the first."""

import json
import os
import platform
import sys
from pathlib import Path

# clusters, registries and operators are started the way the tests start them
sys.path.append(str(Path(__file__).parents[1] / "tests"))


def show(bench: str, **values: object) -> None:
    """Print one line."""
    print(json.dumps({"bench": bench, **values}), flush=True)


def machine() -> dict[str, object]:
    """What the figures were measured on."""
    return {"cpus": os.cpu_count(), "kernel": platform.release(), "python": platform.python_version()}
