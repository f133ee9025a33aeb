"""The sites of one model as its decision sees them: site, order and report side by side, sorted by name."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property

import msgspec

from edgefleet.core import liveness, names, placement
from edgefleet.core import order as wire
from edgefleet.core.seen import Meta, ModelSeen, OrderObject, ReportSeen, SiteObject
from edgefleet.core.specs import Selector
from edgefleet.core.statuses import Connectivity

_NO_REPORT = ReportSeen()


class SiteView(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One site and what it has to do with the model. A struct: a pass makes one for every site there is."""

    name: str
    site: SiteObject | None
    """None: an order is left of a site that was deleted."""
    labels: Mapping[str, str]
    placed: bool
    """Exists and is selected by the placement."""
    eligible: bool
    """Joined, not cordoned, understands our orders: may be offered something, and is counted."""
    counted: bool
    """Placed and eligible: part of the model's numbers."""
    connectivity: Connectivity
    online: bool
    """Heard within `offlineAfter`."""
    heard: datetime | None
    meta: Meta | None
    """Of the order; None: there is none."""
    order: wire.Order | None
    """None: there is none, or it cannot be read."""
    report: ReportSeen
    running: wire.Order | None
    """The order, if it says to run something."""
    answered: bool
    """The report answers the live order, not an earlier one or one of an earlier life."""

    @property
    def readable(self) -> bool:
        """There is no order, or one we understand."""
        return self.meta is None or self.order is not None


@dataclass(frozen=True)
class Fleet:
    """All sites that matter to one model."""

    views: tuple[SiteView, ...]
    changes_in: float | None
    """Seconds until silence alone changes what is thought of a placed site."""

    @cached_property
    def placed(self) -> tuple[SiteView, ...]:
        """Sites the placement selects."""
        return tuple(view for view in self.views if view.placed)

    @cached_property
    def counted(self) -> tuple[SiteView, ...]:
        """Placed sites that can take part."""
        return tuple(view for view in self.views if view.counted)


def survey(seen: ModelSeen, selector: Selector | None, now: datetime) -> Fleet:
    """Put sites, orders and reports together. Without a selector no site is placed."""
    orders = {order.site: order for order in seen.orders}
    views, changes = [], []
    for site in seen.sites:
        alive = liveness.judge(site, seen.operator_started, now)
        view = _view(site, orders.pop(site.meta.name, None), selector, alive.connectivity)
        views.append(view)
        if view.counted and view.online and alive.changes_in is not None:
            changes.append(alive.changes_in)
    views.extend(_left_over(order) for order in orders.values())
    views.sort(key=lambda view: view.name)
    return Fleet(tuple(views), min(changes, default=None))


def offerable(site: SiteObject) -> bool:
    """Whether a site may get offers: joined, heard once, not cordoned, and its agent understands our orders."""
    return (
        site.lease is not None
        and site.agent is not None
        and not site.meta.deleting
        and not liveness.spec_of(site).cordoned
        and names.ORDER_VERSION in site.agent.status.understands
    )


def _view(
    site: SiteObject, order: OrderObject | None, selector: Selector | None, connectivity: Connectivity
) -> SiteView:
    readable = _readable(order)
    placed = selector is not None and placement.matches(selector, site.meta.labels)
    eligible = offerable(site)
    return SiteView(
        name=site.meta.name,
        site=site,
        labels=site.meta.labels,
        placed=placed,
        eligible=eligible,
        counted=placed and eligible,
        connectivity=connectivity,
        online=connectivity is Connectivity.ONLINE,
        heard=_heard(site, order),
        meta=order.meta if order else None,
        order=readable,
        report=order.report if order else _NO_REPORT,
        running=_running(readable),
        answered=order is not None and _answers(order),
    )


def _heard(site: SiteObject, order: OrderObject | None) -> datetime | None:
    """Last sign of life that vouches for the report: a beat, or the report itself."""
    beat = site.lease.heard if site.lease is not None else None
    report = order.reported if order is not None else None
    if beat is None or report is None:
        return beat or report
    return max(beat, report)


def _left_over(order: OrderObject) -> SiteView:
    return SiteView(
        name=order.site,
        site=None,
        labels={},
        placed=False,
        eligible=False,
        counted=False,
        connectivity=Connectivity.UNKNOWN,
        online=False,
        heard=None,
        meta=order.meta,
        order=_readable(order),
        report=order.report,
        running=_running(_readable(order)),
        answered=_answers(order),
    )


def _readable(order: OrderObject | None) -> wire.Order | None:
    return order.order if order is not None and isinstance(order.order, wire.Order) else None


def _running(order: wire.Order | None) -> wire.Order | None:
    return order if order is not None and order.state is wire.State.RUN else None


def _answers(order: OrderObject) -> bool:
    said = order.report.order
    return said is not None and said.uid == order.meta.uid and said.generation == order.meta.generation
