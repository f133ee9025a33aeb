"""What a site does next about one model: one function, called again after every step and every change.

It reads what is there and picks one step; it keeps no plan. The Service's selector is the commit point and the
only truth about what serves: before it moves, a crash goes back or goes on; after, it only cleans up.
Going back and cleaning up come before going forward, and nothing here ever ends what serves without a Remove order.
"""

from dataclasses import replace
from datetime import datetime
from typing import Final

from edgepod.contract import TrafficLease

from edgefleet.core import (
    local_canary,
    local_install,
    local_keep,
    local_outputs,
    local_relapse,
    local_report,
    local_swap,
)
from edgefleet.core.canary import LEASE_FRESH
from edgefleet.core.local import LocalDecision, LocalSeen, Progress, Remember, Wait
from edgefleet.core.local_view import Outcome, View
from edgefleet.core.order import Stage

_QUOTED: Final = 900
"""Characters of an API server's answer that are told; what is wrong comes at its end."""
_RULES: Final = (
    local_keep.removal,
    local_keep.kept,
    local_keep.too_long,
    local_keep.service,
    local_keep.selector,
    local_keep.serving_deployment,
    local_swap.measured,
    local_swap.undo,
    local_relapse.relapse,
    local_keep.strangers,
    local_keep.restore_scale,
    local_keep.unreadable,
    local_keep.refused,
    local_keep.outside,
    local_keep.converged,
    local_install.rejected,
    local_install.fetch,
    local_outputs.incomparable,
    local_swap.swap,
    local_install.self_test,
    local_install.start,
    local_canary.confirming,
    local_install.ready,
    local_install.canary_steps,
    local_install.promote,
)
"""The first rule that has something to say decides the pass."""


def decide_local(seen: LocalSeen, now_monotonic: float, now_wall: datetime) -> LocalDecision:
    """Decide one step. `now_monotonic` in seconds of any clock that never jumps; the wall clock only stamps."""
    view = View(_in_time(_for_this_order(seen), now_monotonic), now_monotonic, now_wall)
    outcome = next(found for rule in _RULES if (found := rule(view)) is not None)
    leases: tuple[tuple[str, TrafficLease], ...] = ()
    if outcome.lease is not None and (serving := view.deployment(view.active)) is not None:
        leases = ((serving.name, outcome.lease),)
    return LocalDecision(
        action=outcome.action,
        why=outcome.why or outcome.reason,
        report=local_report.build(_after(view, outcome), outcome),
        requeue_after=outcome.requeue,
        progress=_tick(view, outcome),
        leases=leases,
    )


def refused_by_cluster(
    seen: LocalSeen, now_monotonic: float, now_wall: datetime, message: str, wait: float
) -> LocalDecision:
    """Say that the site's own API server refuses the step; `wait` in seconds until it is tried again.

    It is the environment's fault, so time stands still for the order's deadline.
    """
    view = View(_for_this_order(seen), now_monotonic, now_wall)
    short = message if len(message) <= _QUOTED else f"{message[: _QUOTED // 4]} … {message[-_QUOTED // 2 :]}"
    outcome = Outcome(
        Stage.BLOCKED, "RefusedByCluster", short, Wait(), requeue=wait, token=view.progress.token
    )
    return LocalDecision(
        action=outcome.action,
        why=outcome.reason,
        report=local_report.build(view, outcome),
        requeue_after=wait,
        progress=_tick(view, outcome),
    )


def _for_this_order(seen: LocalSeen) -> LocalSeen:
    order, before = seen.order, seen.progress
    subject = f"{order.revision}/{order.attempt}" if order is not None else ""
    if before.subject == subject:
        return seen
    fresh = Progress(
        subject=subject,
        run=before.run,
        steps_opened=before.steps_opened,
        unready_since=before.unready_since,
        down_since=before.down_since,
    )
    return replace(seen, progress=fresh)


def _in_time(seen: LocalSeen, now: float) -> LocalSeen:
    """Note it when no pass came for so long that the lease ran out."""
    at = seen.progress.at
    if at is None or now - at < LEASE_FRESH:
        return seen
    return replace(seen, progress=_without_lease(seen, seen.progress))


def _without_lease(seen: LocalSeen, progress: Progress) -> Progress:
    """A serving pod that hears of no canary forgets what it counted: the step under way has lost its evidence."""
    step = progress.step
    if step is None or step.begun is None:
        return progress
    if seen.order is not None and progress.index >= len(seen.order.canary.steps):
        return progress  # all have passed; nothing is judged any more
    return replace(progress, step=replace(step, lost=True))


def _after(view: View, outcome: Outcome) -> View:
    """Report what will be remembered: a failure is told together with the refusal it leaves."""
    if not isinstance(outcome.action, Remember):
        return view
    return replace(view, seen=replace(view.seen, record=outcome.action.record))


def _tick(view: View, outcome: Outcome) -> Progress:
    """Go on counting the time without progress."""
    progress = outcome.progress or view.progress
    if outcome.lease is None:
        progress = _without_lease(view.seen, progress)
    return replace(
        progress,
        token=outcome.token,
        spent=view.spent(outcome.token),
        at=view.now,
        counting=outcome.counting,
        unready_since=view.unready_since,
    )
