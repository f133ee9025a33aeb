"""The site's policy in force: the EdgeAgent as the journal has it, read for the passes. Needs no hub."""

import logging
from typing import Any, Final

import msgspec

from edgefleet import schedule
from edgefleet.agent.clock import Clock
from edgefleet.agent.journal import Journal
from edgefleet.core import units
from edgefleet.core.specs import SiteWindows
from edgefleet.core.window import SHUT, UNREADABLE, Windows

log = logging.getLogger(__name__)

DEFAULT_BEAT: Final = 120.0
_NONE: Final = SiteWindows()


class SitePolicy:
    """Windows, bandwidth, beats, cordon and jurisdiction of this site."""

    def __init__(self, journal: Journal, clock: Clock, own_jurisdiction: str = "") -> None:
        """`own_jurisdiction` is the site's own word, which wins over its hub's."""
        self._own_jurisdiction = own_jurisdiction
        self.clock = clock
        self._journal = journal
        self._read: tuple[Any, SiteWindows | str] = (None, _NONE)
        """What was read last, and what it says or why it says nothing."""

    def windows(self) -> Windows:
        """What is open now. Windows that cannot be read are closed: they are there for a reason."""
        listed = self._listed()
        if isinstance(listed, SiteWindows):
            try:
                return schedule.evaluate(listed, self.clock.now, self.clock.untrusted)
            except ValueError as error:
                listed = str(error)
        return Windows(
            SHUT, SHUT, UNREADABLE, f"the site's windows cannot be read ({listed}): upgrade its agent"
        )

    def _listed(self) -> SiteWindows | str:
        raw = self._journal.policy.spec.get("windows")
        if raw != self._read[0]:
            self._read = (raw, _parsed(raw))
        return self._read[1]

    @property
    def interval(self) -> float:
        """Seconds between two beats."""
        text = self._journal.policy.spec.get("heartbeatInterval")
        try:
            return max(1.0, units.duration(text)) if isinstance(text, str) else DEFAULT_BEAT
        except ValueError:
            return DEFAULT_BEAT

    @property
    def cordoned(self) -> bool:
        """Whether nothing new is to be begun here; the hub's word, and it holds while the hub is away."""
        return self._journal.policy.spec.get("cordoned") is True

    @property
    def jurisdiction(self) -> str:
        """Whose law this site is under; empty: nobody said."""
        said = self._journal.policy.spec.get("jurisdiction")
        return self._own_jurisdiction or (said if isinstance(said, str) else "")

    @property
    def bandwidth(self) -> str:
        """Bytes per second models may take of the link, as people write it; empty: no limit."""
        limit = self._journal.policy.spec.get("bandwidthLimit")
        return limit if isinstance(limit, str) else ""

    @property
    def bytes_per_second(self) -> float | None:
        """The same as a number. None: no limit."""
        text = self.bandwidth
        if not text:
            return None
        try:
            return max(1.0, units.quantity(text))
        except ValueError as error:
            log.warning("Bandwidth limit cannot be read", extra={"error": str(error)})
            return None

    def status(self) -> dict[str, Any]:
        """Render it for EdgeAgent.status.windows."""
        found = self.windows()
        told: dict[str, Any] = {"download": found.download.open, "update": found.update.open}
        return told | ({"trouble": found.trouble[:256]} if found.trouble else {})


def _parsed(raw: Any) -> SiteWindows | str:
    if raw is None:
        return _NONE
    try:
        return msgspec.convert(raw, SiteWindows)
    except msgspec.ValidationError as error:
        return str(error)
