"""What one site has come to with its order: recomputed from order, report and beat each time, stored nowhere."""

from datetime import datetime
from enum import StrEnum
from typing import Final

from edgefleet.core import conditions, liveness, units, window
from edgefleet.core import order as wire
from edgefleet.core.fleet import SiteView
from edgefleet.core.order import Stage
from edgefleet.core.seen import ReportSeen

HUB_BEHIND: Final = "HubBehind"
"""Reason of a site that refuses to go to a lower bundle version because the order names no digest to leave."""


class Verdict(StrEnum):
    """What one site has come to with its order."""

    AT_WORK = "AtWork"
    """Offered, unfinished, and heard: takes a slot."""
    HEALTHY = "Healthy"
    FAILED = "Failed"
    """The model's own fault; counted and remembered."""
    BLOCKED = "Blocked"
    """The surroundings' fault, or the order's; tried again, never counted."""
    HELD = "Held"
    """Waits for a window, or for traffic to judge by."""
    UNREACHABLE = "Unreachable"
    """Not heard, or silent about its order for five beats."""


_HEALTHY: Final = Verdict.HEALTHY
_SERVING: Final = Stage.SERVING
_STANDING: Final[dict[str, Verdict]] = {
    Stage.BLOCKED: Verdict.BLOCKED,
    Stage.REJECTED: Verdict.BLOCKED,
    Stage.ROLLED_BACK: Verdict.BLOCKED,
    Stage.HELD: Verdict.HELD,
    Stage.WAITING: Verdict.HELD,
}
"""A rejection or a return without an entry in `refused` is not the model's fault."""


def judge(view: SiteView, now: datetime) -> Verdict:
    """Judge a site whose order says to run something.

    A refusal names revision and attempt itself, so it counts whichever order the report answers. Success counts only
    for the live order.
    """
    order, report = view.running, view.report
    if order is None:
        return Verdict.BLOCKED
    if report.refused and refusal(report, order.revision, order.attempt) is not None:
        return Verdict.FAILED
    if not view.online:
        return Verdict.UNREACHABLE
    if not view.answered:
        return Verdict.UNREACHABLE if _unresponsive(view, order, now) else Verdict.AT_WORK
    if serves(report, order.revision):
        return _HEALTHY
    if report.reason in window.WAITING:
        return _by_its_window(view)
    return _STANDING.get(report.stage, Verdict.AT_WORK)


def _by_its_window(view: SiteView) -> Verdict:
    """A site whose window has opened by the hub's clock is about to begin: it takes its slot back."""
    windows, reason = view.windows, view.report.reason
    awaited = windows.update if view.report.stage == Stage.STAGED else windows.download
    return Verdict.AT_WORK if reason == window.CLOSED and awaited.open else Verdict.HELD


def serves(report: ReportSeen, revision: str) -> bool:
    """Whether a report says that a revision serves and is ready."""
    return (
        report.stage == _SERVING
        and report.active_revision == revision
        and conditions.status_of(report.conditions, conditions.READY) == conditions.TRUE
    )


def refusal(report: ReportSeen, revision: str, attempt: int) -> wire.Refusal | None:
    """Why a site does not take a revision at this attempt; a later attempt's failure speaks of earlier ones too."""
    for item in report.refused:
        if item.revision == revision and item.attempt >= attempt:
            return item
    return None


def _unresponsive(view: SiteView, order: wire.Order, now: datetime) -> bool:
    if view.site is None:
        return False
    return now - units.instant(order.offered_at) > liveness.answer_within(view.site)
