"""The sites of one model as its decision sees them: site, order and report side by side, sorted by name."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from operator import attrgetter
from typing import Final

import msgspec

from edgefleet.core import liveness, placement, revision
from edgefleet.core import order as wire
from edgefleet.core.placement import Fit
from edgefleet.core.seen import Meta, ModelSeen, OrderObject, ReportSeen, SiteObject
from edgefleet.core.specs import ModelSpec
from edgefleet.core.statuses import Connectivity, VariantNeeds
from edgefleet.core.window import NO_WINDOWS, Windows

_NO_REPORT = ReportSeen()
_GONE = Fit(placement.Reason.NOT_SELECTED, "there is no EdgeSite of the name any more")
_ONLINE: Final = Connectivity.ONLINE
_NAMED = 3
"""Unfit sites a message names."""


class SiteView(msgspec.Struct, frozen=True, gc=False):
    """One site and what it has to do with the model. A struct: a pass makes one for every site there is."""

    name: str
    site: SiteObject | None
    """None: an order is left of a site that was deleted."""
    labels: Mapping[str, str]
    fit: Fit
    """Whether the site may be offered the model, and why not."""
    placed: bool
    """Exists and is selected by the placement, in a jurisdiction it allows."""
    counted: bool
    """Placed, joined, not set aside, understands our orders, has what it takes: may be offered something, is in the numbers."""
    connectivity: Connectivity
    online: bool
    """Heard within `offlineAfter`."""
    heard: datetime | None
    windows: Windows
    meta: Meta | None = None
    """Of the order; None: there is none."""
    order: wire.Order | None = None
    """None: there is none, or it cannot be read."""
    report: ReportSeen = _NO_REPORT
    running: wire.Order | None = None
    """The order, if it says to run something."""
    answered: bool = False
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
    def counted(self) -> tuple[SiteView, ...]:
        """Placed sites that can take part."""
        return tuple([view for view in self.views if view.counted])

    @cached_property
    def _others(self) -> tuple[SiteView, ...]:
        return tuple([view for view in self.views if not view.counted])

    @cached_property
    def running(self) -> tuple[tuple[SiteView, wire.Order], ...]:
        """Sites whose orders say to run something, and those orders."""
        return tuple([(view, view.running) for view in self.views if view.running is not None])

    @cached_property
    def ending(self) -> tuple[SiteView, ...]:
        """Sites whose orders say to keep or to remove what is there."""
        return tuple([view for view in self.views if view.order is not None and view.running is None])

    @cached_property
    def quarantined(self) -> tuple[SiteView, ...]:
        """Placed sites the operator has set aside."""
        return tuple(view for view in self._others if view.fit.reason is placement.Reason.QUARANTINED)

    @cached_property
    def unfit(self) -> tuple[SiteView, ...]:
        """Placed sites without what the model needs."""
        return tuple(view for view in self._others if view.fit.unfit)

    @cached_property
    def nobody(self) -> str:
        """Why the model can run on no site at all, and what to do; empty: there is one it is meant for."""
        if self.counted or any(view.placed and not view.fit.unfit for view in self._others):
            return ""
        meant = [view for view in self.views if view.fit.reason is not placement.Reason.NOT_SELECTED]
        if not meant:
            return "spec.placement.siteSelector matches no EdgeSite: correct it or label sites"
        tally = Counter(view.fit.reason.value for view in meant)
        counts = ", ".join(f"{number} {reason}" for reason, number in sorted(tally.items()))
        named = "; ".join(f"{view.name}: {view.fit.message}" for view in meant[:_NAMED])
        more = f" and {len(meant) - _NAMED} more" if len(meant) > _NAMED else ""
        return (
            f"spec.placement.siteSelector matches {len(meant)} EdgeSites and the model may run on none of them: "
            f"{counts} ({named}{more})"
        )


def survey(seen: ModelSeen, spec: ModelSpec | None, now: datetime) -> Fleet:
    """Put sites, orders and reports together. Without a spec no site is placed."""
    orders = {order.site: order for order in seen.orders}
    ask = placement.NOBODY if spec is None else placement.asked(spec, needs(seen, spec))
    views, changes = [], []
    for site in seen.sites:
        alive = liveness.judge(site, seen.operator_started, now)
        order = orders.pop(site.meta.name, None)
        fit = placement.judge(site, ask)
        if fit is not placement.FITS and fit.unfit and order is not None and spec is not None:
            fit = placement.FITS if _proven(order, spec) else fit
        view = _view(site, order, fit, alive.connectivity)
        views.append(view)
        if view.counted and view.online and alive.changes_in is not None:
            changes.append(alive.changes_in)
    views.extend(_left_over(order) for order in orders.values())
    views.sort(key=attrgetter("name"))
    return Fleet(tuple(views), min(changes, default=None))


def needs(seen: ModelSeen, spec: ModelSpec) -> tuple[VariantNeeds, ...]:
    """What the variants of the bundle ask for: as just looked up, or as the status remembers; empty: not known."""
    if seen.bundle is not None and seen.bundle.ok and seen.bundle.bundle == spec.bundle:
        return seen.bundle.needs
    known = seen.model.status.bundle if seen.model is not None else None
    if known is None or revision.bundle_digest(known.reference) != revision.bundle_digest(spec.bundle):
        return ()
    return known.variants


def _proven(order: OrderObject, spec: ModelSpec) -> bool:
    """Whether what the spec asks for serves there already: no reckoning says more than that."""
    found, report = order.readable, order.report
    return (
        found is not None
        and order.answered
        and report.stage == wire.Stage.SERVING
        and report.active_revision == found.revision
        and revision.bundle_digest(found.bundle) == revision.bundle_digest(spec.bundle)
        and found.variants == spec.variants
        and revision.without_replicas(found.serving) == revision.without_replicas(spec.serving)
    )


def _view(site: SiteObject, order: OrderObject | None, fit: Fit, connectivity: Connectivity) -> SiteView:
    """One site. By position: named arguments take eight times as long, and this is done for every site of every pass."""
    meta, online, counted = site.meta, connectivity is _ONLINE, fit.eligible
    name, labels, placed = meta.name, meta.labels, counted or fit.placed
    beat, windows = site.lease.heard if site.lease is not None else None, site.windows
    if order is None:
        return SiteView(name, site, labels, fit, placed, counted, connectivity, online, beat, windows)
    said = order.reported
    heard = said if beat is None or (said is not None and said > beat) else beat
    return SiteView(
        name,
        site,
        labels,
        fit,
        placed,
        counted,
        connectivity,
        online,
        heard,
        windows,
        order.meta,
        order.readable,
        order.report,
        order.running,
        order.answered,
    )


def _left_over(order: OrderObject) -> SiteView:
    return SiteView(
        name=order.site,
        site=None,
        labels={},
        fit=_GONE,
        placed=False,
        counted=False,
        connectivity=Connectivity.UNKNOWN,
        online=False,
        heard=None,
        windows=NO_WINDOWS,
        meta=order.meta,
        order=order.readable,
        report=order.report,
        running=order.running,
        answered=order.answered,
    )
