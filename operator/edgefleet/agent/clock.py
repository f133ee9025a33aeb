"""What the site's clock is worth: windows are judged by it, and nothing else is."""

import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

BUILT: Final = datetime(2026, 11, 1, tzinfo=UTC)
"""No clock is right that shows less: this code was not written yet. Moved with each release."""
MOST: Final = 300.0
"""Seconds a clock may be off the hub's."""


def _steady() -> float:
    """Seconds that go on while the box sleeps, and that nobody sets."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Clock:
    """The site's clock beside the hub's, as it goes on since the hub was last heard."""

    def __init__(self, steady: Callable[[], float] = _steady, wall: Callable[[], float] = time.time) -> None:
        """`steady` gives seconds of a clock that never jumps, `wall` the site's own Unix time."""
        self._steady = steady
        self._wall = wall
        self._ahead: float | None = None
        """The hub's Unix time minus `steady`; None: the hub was not heard in this life of the agent."""

    def heard(self, hub: float) -> None:
        """Note the hub's Unix time."""
        self._ahead = hub - self._steady()

    @property
    def now(self) -> datetime:
        """What the site's clock shows."""
        return datetime.fromtimestamp(self._wall(), UTC)

    @property
    def skew(self) -> float | None:
        """The site's clock minus the hub's, seconds; None: unknown."""
        return None if self._ahead is None else self._wall() - self._steady() - self._ahead

    @property
    def untrusted(self) -> str:
        """Why no window may be judged by this clock; empty: it may."""
        if self.now < BUILT:
            return f"the clock shows {self.now:%Y-%m-%d}, which is before this agent was made: set it (NTP)"
        skew = self.skew
        if skew is not None and abs(skew) > MOST:
            return f"the clock is more than {MOST / 60:.0f} min {'ahead of' if skew > 0 else 'behind'} the hub's: set it (NTP)"
        return ""
