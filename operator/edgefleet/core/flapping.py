"""The bounded memory of what comes and goes at a site: its link, and pods of promoted revisions that crash."""

from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from typing import Final

from edgefleet.core import units
from edgefleet.core.conditions import FALSE, READY
from edgefleet.core.order import Order, Stage
from edgefleet.core.quarantine import CONNECTIVITY
from edgefleet.core.seen import OrderObject, SiteObject
from edgefleet.core.statuses import Connectivity, Flap

REMEMBERED: Final = 32
"""Entries a site's status keeps; a policy cannot ask for more."""
KEPT: Final = timedelta(hours=24)
"""Longest time a policy can ask for."""
NOT_READY: Final = "NotReady"
"""Reason in the report of a promoted revision without enough ready pods."""
CRASHES: Final = ("Crashed", "OutOfMemory")
"""How the message of such a report begins when the model is to blame."""
_AWAY: Final = (Connectivity.AWAY, Connectivity.OFFLINE)


def remember(
    site: SiteObject, connectivity: Connectivity, orders: Iterable[OrderObject], now: datetime
) -> tuple[Flap, ...]:
    """The site's `status.flaps` with what has changed since it was written; the same when nothing has."""
    known = {(flap.of, flap.mark) for flap in site.status.flaps or () if flap.of != CONNECTIVITY}
    stamp = units.timestamp(now)
    new = [
        Flap(time=stamp, of=of, mark=mark)
        for of, mark in (*_link(site.status.connectivity, connectivity), *_crashes(orders))
        if (of, mark) not in known
    ]
    if not new:
        return site.status.flaps or ()
    fresh = [flap for flap in site.status.flaps or () if now - units.instant(flap.time) < KEPT]
    return (*fresh, *new)[-REMEMBERED:]


def _link(before: Connectivity, after: Connectivity) -> Iterator[tuple[str, str]]:
    left = before is Connectivity.ONLINE and after in _AWAY
    came = before in _AWAY and after is Connectivity.ONLINE
    if left or came:
        yield CONNECTIVITY, after.value


def _crashes(orders: Iterable[OrderObject]) -> Iterator[tuple[str, str]]:
    """Promoted revisions that crashed: each time their readiness ended is told apart by when that was."""
    for item in orders:
        report, order = item.report, item.order
        if not isinstance(order, Order) or (report.stage, report.reason) != (Stage.SERVING, NOT_READY):
            continue
        if report.active_revision != order.revision or not report.message.startswith(CRASHES):
            continue
        ended = next((c for c in report.conditions if c.type == READY and c.status == FALSE), None)
        if ended is not None:
            yield f"{item.meta.name}/{order.revision}", ended.last_transition_time[:64]
