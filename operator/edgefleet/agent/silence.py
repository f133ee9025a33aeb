"""How long the hub has been silent, across restarts of the agent: an order that was not begun lapses by it.

Counted by the monotonic clock alone; while the agent or the whole box is off, nothing is counted.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Final

from edgefleet.agent.journal import Journal, JournalError

log = logging.getLogger(__name__)

_WRITTEN_EVERY: Final = 900.0
"""Seconds between two writes while the hub is silent; a restart forgets no more than that."""


class Silence:
    """Seconds since the hub was last heard. A hub that is heard now and then costs no write."""

    def __init__(self, journal: Journal, clock: Callable[[], float] = time.monotonic) -> None:
        """Go on from what the journal says. `clock` gives seconds and never jumps."""
        self._journal = journal
        self._clock = clock
        self._before = journal.silent
        self._since = clock()
        self._broken = asyncio.Event()

    @property
    def seconds(self) -> float:
        """How long it has lasted."""
        return self._before + self._clock() - self._since

    def heard(self) -> None:
        """The hub has answered."""
        self._before, self._since = 0.0, self._clock()
        if self._journal.silent:
            self._broken.set()

    async def keep(self) -> None:
        """Keep the journal's number right, for ever."""
        while True:
            try:
                async with asyncio.timeout(_WRITTEN_EVERY):
                    await self._broken.wait()
            except TimeoutError:
                pass
            self._broken.clear()
            await self.write()

    async def write(self) -> None:
        """Write a silence that lasts, or that it has ended."""
        try:
            while True:
                lasts = self.seconds if self.seconds >= _WRITTEN_EVERY / 2 else 0.0
                await self._journal.set_silent(lasts)
                if self.seconds >= lasts:
                    return  # it was not broken while it was written
        except JournalError as error:
            log.warning("Silence of the hub not written", extra={"error": str(error)})
