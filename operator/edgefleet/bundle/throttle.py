"""How fast bytes may come in: a bucket of tokens that all downloads of a site share, and that is changed while they run.

What the kernel has buffered is already here when it is counted, so a limit holds over seconds, not within them.
"""

import asyncio
import time
from collections.abc import Callable
from typing import Final

_BURST: Final = 1.0
"""Seconds of the limit that may come at once."""
_NAP: Final = 0.5
"""Longest sleep in seconds: a limit that is changed or lifted is felt so soon."""
_LARGEST: Final = 1 << 18
_SMALLEST: Final = 1 << 10


class Throttle:
    """Lets bytes through at a limited rate. Fair enough: who asks first, waits first."""

    def __init__(self, limit: float | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        """`limit` in bytes per second, None: as fast as they come. `clock` in seconds, never jumping."""
        self.limit = limit
        self._clock = clock
        self._tokens = 0.0
        self._at = clock()
        self._turn = asyncio.Lock()

    @property
    def portion(self) -> int:
        """Bytes worth reading at once: at most what a quarter of a second may bring."""
        limit = self.limit
        return _LARGEST if limit is None else int(min(_LARGEST, max(_SMALLEST, limit / 4)))

    async def passed(self, number: int) -> None:
        """Wait until so many bytes that have come were due."""
        if self.limit is None:
            return
        async with self._turn:
            self._fill()
            self._tokens -= number
            while self._tokens < 0 and (limit := self.limit) is not None:
                await asyncio.sleep(min(_NAP, -self._tokens / limit))
                self._fill()

    def _fill(self) -> None:
        now, limit = self._clock(), self.limit
        if limit is None:
            self._tokens = 0.0
        else:
            self._tokens = min(_BURST * limit, self._tokens + (now - self._at) * limit)
        self._at = now
