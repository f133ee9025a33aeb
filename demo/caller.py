"""Runs in a pod inside a site: asks the model's Service `--rate` times a second, whatever comes back.

Prints one line of JSON twice a second: totals since the first answer. A request that has no 2xx within five
seconds has failed; none is tried twice, but that the client opens a new connection for one that the pod had closed
while it was idle. Standard library, NumPy and `edgepod.client`, which are in the pod image.
"""

import argparse
import itertools
import json
import queue
import threading
import time
from typing import Any

import numpy as np
from edgepod.client import Client, ClientError

PATIENCE = 5.0
"""Seconds after which a request has failed."""
WORKERS = 40
"""Connections. Requests wait for one of them only when answers take longer than two seconds."""
STALE = 1.0
"""Seconds after which a request is not worth asking while nobody answers at all."""
REPORT = 0.5
"""Seconds between two lines."""


class Counted:
    """Totals since the first answer: before it there is nothing to fail at."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._began = float("inf")
        self._sent = self._failed = self._before = self._after = 0
        self._slowest_ms = 0.0
        self._error = ""
        self._revisions: dict[str, int] = {}

    def began(self) -> bool:
        """Whether there was an answer yet."""
        return self._began < float("inf")

    def answered(self, since: float, raw: int, wire: int, revision: str) -> None:
        """Count a 2xx to a request due at `since` (monotonic); it is a failure when it came too late."""
        with self._lock:
            seconds = time.monotonic() - since
            if not self.began():
                self._began = time.monotonic()
            elif since < self._began:
                return
            else:
                self._failed += seconds > PATIENCE
            self._sent += 1
            self._before += raw
            self._after += wire
            self._slowest_ms = max(self._slowest_ms, seconds * 1000)
            self._revisions[revision] = self._revisions.get(revision, 0) + 1

    def failed(self, since: float, error: str) -> None:
        """Count a request without a 2xx."""
        with self._lock:
            self._error = f"{time.strftime('%H:%M:%S')} {error}"
            if since >= self._began:
                self._sent += 1
                self._failed += 1

    def line(self) -> str:
        """The totals as JSON; the names are those of demo.traffic.Totals."""
        with self._lock:
            said: dict[str, Any] = {
                "sent": self._sent,
                "failed": self._failed,
                "before_lz4": self._before,
                "after_lz4": self._after,
                "slowest_ms": round(self._slowest_ms, 1),
                "revisions": self._revisions,
                "error": self._error,
            }
            return json.dumps(said)


def work(url: str, model: str, images: Any, due: "queue.Queue[tuple[int, float]]", counted: Counted) -> None:
    """Ask for ever, on one connection."""
    client = Client(url, timeout=PATIENCE)
    while True:
        number, since = due.get()
        if not counted.began() and time.monotonic() - since > STALE:
            continue
        try:
            answer = client.infer(model, {"image": images[number % len(images)][None]})
        except ClientError as error:
            counted.failed(since, f"{type(error).__name__}: {error}")
        else:
            counted.answered(since, answer.raw_bytes, answer.wire_bytes, answer.revision)


def main() -> None:
    """Put requests into the queue in time, and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--url", required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--images", required=True)
    parser.add_argument("--rate", type=float, required=True)
    options = parser.parse_args()
    images = np.load(options.images)["images"]
    due: queue.Queue[tuple[int, float]] = queue.Queue()
    counted = Counted()
    for _ in range(WORKERS):
        arguments = (options.url, options.model, images, due, counted)
        threading.Thread(target=work, args=arguments, daemon=True).start()
    began = time.monotonic()
    printed = began
    for number in itertools.count():
        at = began + number / options.rate
        time.sleep(max(0.0, at - time.monotonic()))
        due.put((number, at))
        if time.monotonic() - printed >= REPORT:
            printed = time.monotonic()
            print(counted.line(), flush=True)


if __name__ == "__main__":
    main()
