"""Runs in a pod inside a site: watches what serving pods say of a canary, from its first bad answer to its last request.

Prints one line of JSON: seconds from the first bad answer seen until every serving pod sends and copies nothing more.
Reads the pods' health documents; standard library and `edgepod.contract` only, which are in the pod image.
"""

import json
import sys
import time
import urllib.request
from collections.abc import Sequence

from edgepod.contract import HEALTH_PATH, CanaryCounters, HealthDocument, bucket

PAUSE = 0.02
"""Seconds between two looks: the error of the figure."""


def look(address: str) -> CanaryCounters | None:
    """What one serving pod says of the canary now; None: there is none."""
    with urllib.request.urlopen(f"http://{address}:8080{HEALTH_PATH}", timeout=2) as answer:
        return HealthDocument.from_json(answer.read()).canary


def bad(seen: CanaryCounters, slow_ms: float) -> bool:
    """Whether there was an answer that failed, was late, was slow, or said something else."""
    sides = (seen.sent, seen.shadowed)
    slow = slow_ms and any(sum(side.latency[bucket(slow_ms) + 1 :]) for side in sides)
    return bool(seen.disagreed or slow or any(side.errors or side.late for side in sides))


def main(addresses: Sequence[str], slow_ms: float, patience: float) -> None:
    """Watch until it is over."""
    end = time.monotonic() + patience
    first: float | None = None
    while time.monotonic() < end:
        now = time.monotonic()
        seen = [found for address in addresses if (found := look(address)) is not None]
        if first is None and any(bad(each, slow_ms) for each in seen):
            first = now
        if first is not None and not any(each.weight or each.shadow for each in seen):
            print(json.dumps({"seconds": round(now - first, 3)}), flush=True)
            return
        time.sleep(PAUSE)
    print(json.dumps({"error": "no bad answer" if first is None else "it is still asked"}), flush=True)


if __name__ == "__main__":
    main(sys.argv[3:], float(sys.argv[1]), float(sys.argv[2]))
