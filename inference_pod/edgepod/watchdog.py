"""Ends runs on the event loop that turn out to be long.

How long a run takes is known from those before it, and an input may be unlike them. While it runs on the event loop no probe
is answered and no signal heard, so after LIMIT_SECONDS it is stopped, and done again on the worker thread.
"""

import threading
import time
from collections.abc import Callable
from typing import Final, TypeVar

from edgepod.engine import Stop, Stopped

_T = TypeVar("_T")
LIMIT_SECONDS: Final = 0.25
_TICK_SECONDS: Final = 0.2


class Watchdog:
    """Watches one run at a time. Costs a request two stores; the thread wakes five times a second."""

    def __init__(self) -> None:
        self._since: float | None = None
        self._stop = Stop()
        threading.Thread(target=self._watch, name="watchdog", daemon=True).start()

    def guard(self, run: Callable[[Stop], _T]) -> _T | None:
        """The result of a run, or None when it had to be stopped."""
        self._since = time.monotonic()
        try:
            return run(self._stop)
        except Stopped:
            self._stop = Stop()
            return None
        finally:
            self._since = None

    def _watch(self) -> None:
        # It may stop a run that has just begun, in place of one that has just ended: that one is done again, no more.
        while True:
            time.sleep(_TICK_SECONDS)
            since = self._since
            if since is not None and time.monotonic() - since > LIMIT_SECONDS:
                self._stop.now()
