"""When the site's certificate is renewed. A renewal that fails harms nothing: the certificate is good for months yet."""

import logging
import random
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Final

from edgefleet.agent.identity import Identity, JoinRefused
from edgefleet.kube import errors

log = logging.getLogger(__name__)

_AT_LEAST: Final = 86400.0
"""Seconds between two renewals, or a third of a certificate's life that is shorter than three days."""
_RETRY: Final = 7200.0
"""Seconds after a renewal that failed, or a twelfth of a certificate's life that is shorter than a day."""


class Renewals:
    """Judges by the hub's clock, for the site's own may be years off, and asks seldom whatever any clock says."""

    def __init__(self, identity: Identity, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock` gives seconds and never jumps."""
        self._identity = identity
        self._clock = clock
        self._hub: tuple[datetime, float] | None = None
        self._not_before = 0.0

    def heard(self, date: str) -> None:
        """Take the hub's time from a `Date` header. Raises ValueError when it is none."""
        found = parsedate_to_datetime(date)
        self._hub = (found if found.tzinfo is not None else found.replace(tzinfo=UTC)), self._clock()

    def due(self) -> bool:
        """Return whether to renew now; never before the hub's time is known."""
        if self._hub is None or self._clock() < self._not_before:
            return False
        date, at = self._hub
        return self._identity.due(date + timedelta(seconds=self._clock() - at))

    async def attempt(self) -> bool:
        """Ask for a certificate; return whether there is a new one."""
        life = self._identity.credential.life(self._identity.site)
        try:
            await self._identity.renew()
        except (JoinRefused, errors.ApiError, ValueError) as error:
            self._wait(min(_RETRY, life / 12))
            log.warning("Certificate not renewed, the one there is goes on", extra={"error": str(error)})
            return False
        self._wait(min(_AT_LEAST, life / 3))
        log.info("Certificate renewed")
        return True

    def _wait(self, seconds: float) -> None:
        self._not_before = self._clock() + seconds * random.uniform(1.0, 1.3)  # noqa: S311  jitter is no secret
