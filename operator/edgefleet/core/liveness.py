"""Whether a site is heard. Only the hub's clock counts: a site's own may say anything."""

import functools
from datetime import datetime, timedelta
from typing import Final

import msgspec

from edgefleet.core import units
from edgefleet.core.seen import LeaseSeen, SiteObject
from edgefleet.core.specs import SiteSpec
from edgefleet.core.statuses import Connectivity

BEATS_TO_ANSWER: Final = 5
"""A site that beats but says nothing about its order for so many beats is unresponsive."""
MAX_SKEW: Final = timedelta(minutes=5)
_DEFAULT: Final = SiteSpec()
_ONLINE: Final = Connectivity.ONLINE


class Liveness(msgspec.Struct, frozen=True, gc=False):
    """Whether a site is heard, and in how many seconds its silence alone would change that."""

    connectivity: Connectivity
    changes_in: float | None


def judge(site: SiteObject, operator_started: datetime, now: datetime) -> Liveness:
    """Tell Online, Away, Offline and Unknown apart by the age of the last beat.

    For one `offlineAfter` after its start the operator moves nobody away from Online: its absence is not theirs.
    """
    heard = site.lease.heard if site.lease is not None else None
    if heard is None:
        return Liveness(Connectivity.UNKNOWN, None)
    spec = spec_of(site)
    offline_after = units.duration(spec.heartbeat.offline_after)
    age = (now - heard).total_seconds()
    if age < offline_after:
        return Liveness(_ONLINE, offline_after - age)
    uptime = (now - operator_started).total_seconds()
    if uptime < offline_after:
        return Liveness(_before(site), offline_after - uptime)
    autonomy = max(units.duration(spec.autonomy), offline_after)
    if age < autonomy:
        return Liveness(Connectivity.AWAY, autonomy - age)
    return Liveness(Connectivity.OFFLINE, None)


def spec_of(site: SiteObject) -> SiteSpec:
    """A site's spec; the defaults while it cannot be read, so that a typo makes nobody unreachable."""
    return site.spec if isinstance(site.spec, SiteSpec) else _DEFAULT


def answer_within(site: SiteObject) -> timedelta:
    """How long an Online site may say nothing about an order before it counts as unresponsive."""
    return _beats_to_answer(spec_of(site).heartbeat.interval)


@functools.lru_cache(maxsize=256)
def _beats_to_answer(interval: str) -> timedelta:
    return timedelta(seconds=BEATS_TO_ANSWER * units.duration(interval))


def skew(site: SiteObject) -> timedelta | None:
    """The site's clock minus the hub's at its last beat; None: unknown."""
    return skew_of(site.lease) if site.lease is not None else None


def skew_of(lease: LeaseSeen) -> timedelta | None:
    """The same of a Lease."""
    return lease.renewed - lease.heard if lease.heard is not None and lease.renewed is not None else None


def _before(site: SiteObject) -> Connectivity:
    known = site.status.connectivity
    return known if known in (Connectivity.AWAY, Connectivity.OFFLINE) else Connectivity.ONLINE
