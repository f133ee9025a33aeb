"""Time windows as decisions see them: open or not, and when that may change. Calendars are read elsewhere."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

LOOK_AHEAD: Final = timedelta(minutes=15)
"""The hub offers so long before a window opens, so that the order is there when it does."""
CLOSED: Final = "WindowClosed"
UNTRUSTED: Final = "ClockUntrusted"
UNREADABLE: Final = "PolicyUnreadable"
WAITING: Final = frozenset({CLOSED, UNTRUSTED, UNREADABLE})
"""Reasons of a site that has nothing to do but wait for a window."""


@dataclass(frozen=True, slots=True)
class Window:
    """Whether something may be done now."""

    open: bool
    changes_at: datetime | None
    """When that may change: a closed window opens then, an open one closes not before. None: not to be foreseen."""

    def soon(self, now: datetime) -> bool:
        """Whether it is open or opens within LOOK_AHEAD."""
        return self.open or (self.changes_at is not None and self.changes_at - now <= LOOK_AHEAD)


ALWAYS: Final = Window(open=True, changes_at=None)


@dataclass(frozen=True, slots=True)
class Windows:
    """The windows of one site."""

    download: Window = ALWAYS
    """For bytes of models."""
    update: Window = ALWAYS
    """For self-tests and new pods."""
    reason: str = CLOSED
    """What a site says that waits for one."""
    trouble: str = ""
    """Why none is open whatever the time: a clock nobody believes; empty: they are judged."""

    def looks(self, now: datetime) -> float | None:
        """Seconds until the passing of time may change what a hub offers. None: never."""
        moments = []
        for window in (self.download, self.update):
            if window.changes_at is not None:
                early = [] if window.open else [window.changes_at - LOOK_AHEAD]
                moments += [moment for moment in (window.changes_at, *early) if moment > now]
        return (min(moments) - now).total_seconds() if moments else None


SHUT: Final = Window(open=False, changes_at=None)
NO_WINDOWS: Final = Windows()
"""A site without windows: everything may be done at any time."""
