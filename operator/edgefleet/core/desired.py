"""The orders of one model: which to write, which to delete, and why.

Going back, holding still and removing are never delayed. Offers of the running rollout were admitted by its waves;
whatever else differs from its target catches up, at a rate and with a breaker of its own.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from edgefleet.core import failures, going_back, opening, pacing, targets, units, waves
from edgefleet.core import order as wire
from edgefleet.core.attempts import Attempts
from edgefleet.core.choosing import Choice, Chooser
from edgefleet.core.composing import GO_BACK, Composer
from edgefleet.core.decisions import ObjectDelete, OrderWrite
from edgefleet.core.fleet import Fleet, SiteView
from edgefleet.core.order import Mode, Stage, State
from edgefleet.core.seen import ModelObject, RolloutObject
from edgefleet.core.specs import ModelSpec
from edgefleet.core.targets import Target, Why
from edgefleet.core.verdict import HUB_BEHIND, Verdict

CATCH_UPS: Final = 50
"""Sites that may be catching up at a time, and that may start to within `CATCH_UPS_WITHIN`."""
CATCH_UPS_WITHIN: Final = 10.0
"""Seconds."""
FORGOTTEN_AFTER: Final = timedelta(days=90)
"""How long an order to remove or keep waits for a site that is not heard."""
FREE_REMOVALS: Final = "10%"
"""Share of a model's sites that a change of placement may remove without a person's consent, and always one site."""
REMOVED_TOGETHER: Final = timedelta(hours=24)
"""Removals of so long count together as long as they are not done."""
_ADMITTED: Final = Why.ADMITTED
_FINISHED: Final = frozenset({Verdict.HEALTHY, Verdict.FAILED})


@dataclass(frozen=True, slots=True)
class Orders:
    """What to do about the orders of a model."""

    writes: tuple[OrderWrite, ...]
    deletes: tuple[ObjectDelete, ...]
    braked: int = 0
    """Sites that left the placement and wait for consent to be removed."""
    broken: str = ""
    """Why nobody catches up any more; empty: the breaker is closed."""
    changes_in: float | None = None
    """Seconds until the pace lets more of them in; None: it keeps nobody back."""


@dataclass(frozen=True, slots=True)
class Given:
    """What the orders of a pass follow from."""

    model: ModelObject
    spec: ModelSpec
    attempts: Attempts
    fleet: Fleet
    verdicts: Mapping[str, Verdict]
    """Of all sites whose orders say to run something."""
    admitted: Mapping[str, str]
    """Wave by site: admitted to the running rollout in this pass."""
    paused: bool
    composer: Composer


def plan(given: Given) -> Orders:
    """Compare every order with its site's target."""
    leaving, braked = _leaving(given)
    chooser = Chooser(given.attempts, given.admitted)
    urgent: list[OrderWrite] = []
    waiting: list[tuple[SiteView, OrderWrite]] = []
    for view in given.fleet.views:
        if view.name in leaving or not view.readable:
            continue
        write, can_wait = _for_site(given, view, chooser.choose(view))
        if write is None:
            continue
        if can_wait:
            waiting.append((view, write))
        else:
            urgent.append(write)
    broken = _breaker(given)
    caught, changes_in = ([], None) if given.paused or broken else _caught(given, waiting)
    return Orders(
        writes=(
            *(given.composer.change(view, "Removed", state=State.REMOVE) for view in leaving.values()),
            *urgent,
            *caught,
        ),
        deletes=removed(given.fleet.ending, given.composer.now),
        braked=braked,
        broken=broken,
        changes_in=changes_in,
    )


def approval_to_remove(model: ModelObject) -> str:
    """What a person approves on the newest rollout to let sites lose the model; worthless after the next edit."""
    return f"removal-{model.meta.generation}"


def removed(views: Iterable[SiteView], now: datetime) -> tuple[ObjectDelete, ...]:
    """Orders to remove that are over: carried out by a site that is no longer placed, or never heard by one long gone."""
    return tuple(
        ObjectDelete(name=view.meta.name, uid=view.meta.uid, site=view.name)
        for view in views
        if view.meta is not None
        and view.order is not None
        and view.order.state is State.REMOVE
        and not view.placed
        and ((view.answered and view.report.stage == Stage.REMOVED) or forgotten(view, view.order, now))
    )


def forgotten(view: SiteView, order: wire.Order, now: datetime) -> bool:
    """Whether nobody was heard for so long that an order which ends something is kept for nobody.

    A box that comes back after all goes on with what it runs, and names it among its orphans.
    """
    since = units.instant(order.offered_at)
    return now - max(since, view.heard or since) > FORGOTTEN_AFTER


# -- one site -----------------------------------------------------------------------------------------


def _for_site(given: Given, view: SiteView, choice: Choice) -> tuple[OrderWrite | None, bool]:
    """The order to write for a site, and whether it may wait."""
    compose, order, target = given.composer, view.running, choice.target
    if order is not None and choice.leaves:
        return going_back.order(compose, view, order, target, given.admitted.get(view.name, "")), False
    if not view.counted or target.rollout is None:
        return None, False
    if order is not None and choice.follows:
        return _adjust(given, view, order, target, target.rollout)
    if target.why is _ADMITTED:
        return compose.offer(view, target.rollout, given.admitted.get(view.name, ""), "Admitted"), False
    if target.why is Why.CURRENT:
        return compose.offer(view, target.rollout, failures.CATCHING_UP, "CatchUp"), True
    return None, False


def _adjust(
    given: Given, view: SiteView, order: wire.Order, target: Target, rollout: RolloutObject
) -> tuple[OrderWrite | None, bool]:
    """Changes to an order for the right revision: in place, with no new attempt."""
    compose = given.composer
    finished = given.verdicts[view.name] in _FINISHED
    if rollout.spec.direct and order.mode is Mode.CANARY and not finished:
        return compose.change(view, "Direct", mode=Mode.DIRECT), False
    if target.why is not _ADMITTED and compose.leaves_bad(view, rollout):
        back = opening.obeys(view)  # may have got windows, or another agent, since the order was written
        if (order.mode, order.go_back) != (Mode.DIRECT, back):
            return compose.change(view, GO_BACK, mode=Mode.DIRECT, go_back=back), False
    if not finished and (changes := _policy(given, view, order, rollout)):
        return compose.change(view, "Policy", **changes), False
    report, left = view.report, view.report.active_bundle
    stuck = report.reason == HUB_BEHIND and report.stage == Stage.REJECTED and view.answered
    if stuck and left in given.attempts.digests and order.replaces != left:
        return compose.change(view, "Replaces", replaces=left), False
    if order.jurisdictions != given.spec.placement.jurisdictions:
        return compose.change(view, "Jurisdictions", jurisdictions=given.spec.placement.jurisdictions), False
    if order.serving.replicas != given.spec.serving.replicas:
        serving = given.composer.spec.serving
        changed = _with_replicas(order.serving, serving.replicas)
        return compose.change(view, "Replicas", serving=changed), False
    return None, False


def _policy(given: Given, view: SiteView, order: wire.Order, rollout: RolloutObject) -> dict[str, object]:
    """What an edit of the spec changes for a site that is not done: the canary's rules, and where the bundle is."""
    changes: dict[str, object] = {}
    running = given.attempts.running
    promoted = view.report.active_revision == order.revision
    if running is not None and rollout.meta.name == running.meta.name and not promoted:
        canary = given.composer.canary(view)
        changes |= {"canary": canary} if canary != order.canary else {}
    reference = given.composer.reference(rollout)
    return changes | ({"bundle": reference} if reference != order.bundle else {})


def _with_replicas(serving: wire.Serving, replicas: int) -> wire.Serving:
    return wire.Serving(
        replicas=replicas, resources=serving.resources, output_compression=serving.output_compression
    )


# -- catching up --------------------------------------------------------------------------------------


def _turn(view: SiteView, write: OrderWrite) -> str:
    """Whose turn it is: another order of sites for each revision, so that not the same ones always try it first."""
    return hashlib.sha256(f"{view.name} {write.order.revision}".encode()).hexdigest()


def _caught(
    given: Given, waiting: Sequence[tuple[SiteView, OrderWrite]]
) -> tuple[list[OrderWrite], float | None]:
    """Who catches up now, and in how many seconds more may, if it is the pace that keeps some back."""
    now = given.composer.now
    heard = [pair for pair in waiting if pair[0].online and opening.may_offer(pair[0], now)]
    if not heard:
        return [], None
    on_it = [
        view for view, order in given.fleet.running if view.counted and order.wave == failures.CATCHING_UP
    ]
    at_work = sum(given.verdicts[view.name] is Verdict.AT_WORK for view in on_it)
    room, changes_in = _room(given, len(heard), at_work)
    writes = {view.name: write for view, write in heard}
    turns = (view for view, _ in sorted(heard, key=lambda pair: _turn(*pair)))
    ahead = CATCH_UPS - at_work - opening.patient(on_it, given.verdicts)
    return [writes[view.name] for view in opening.choose(turns, room, ahead, now)], changes_in


def _room(given: Given, wanted: int, at_work: int) -> tuple[int, float | None]:
    """Sites that may start to catch up now, and in how many seconds more may, if it is the pace that keeps some back.

    `spec.rollout.rate` holds here too: a fleet that comes back at once must not flood the links that it is there for.
    """
    now, current, rate = given.composer.now, given.attempts.current, given.spec.rollout.rate
    offered = [order.offered_at for _, order in given.fleet.running if order.wave == failures.CATCHING_UP]
    paces = [pacing.pace(CATCH_UPS, CATCH_UPS_WITHIN, offered, now)]
    if rate is not None and current is not None:
        serving = sum(
            view.counted
            and given.verdicts[view.name] is Verdict.HEALTHY
            and targets.written_for(order, current)
            for view, order in given.fleet.running
        )
        paces.append(pacing.pace(pacing.per_minute(rate, serving), pacing.MINUTE, offered, now))
    free = min(wanted, max(0, CATCH_UPS - at_work))
    room = min(free, *(pace.room for pace in paces))
    times = [time for pace in paces if (time := pace.next_at(room)) is not None]
    wait = max((time - now).total_seconds() for time in times) if times and room < free else None
    return room, wait


def _breaker(given: Given) -> str:
    """Why nobody may catch up: more sites failed at it than the last wave would allow."""
    current = given.attempts.current
    if current is None:
        return ""
    failed = failures.catching_up(current)
    if failed == 0:
        return ""
    last = waves.effective(given.spec.rollout, current)[-1]
    allowed = waves.allowed_failures(last, len(given.fleet.counted))
    if failed <= allowed:
        return ""
    return (
        f"{failed} sites failed to catch up with revision {current.spec.revision}, {allowed} allowed: "
        f"apply another bundle, raise maxFailures of wave {last.name}, or abort {current.meta.name}"
    )


# -- leaving the placement ----------------------------------------------------------------------------


def _leaving(given: Given) -> tuple[dict[str, SiteView], int]:
    """Sites to be told to remove the model, and how many wait for consent instead."""
    having = [view for view, _ in given.fleet.running if view.site is not None]
    leaving = {view.name: view for view in having if not view.placed}
    # those told before and not yet done count too: sites that leave one by one are as many as those that leave at once
    told = sum(_removing(view, given.composer.now) for view in given.fleet.ending)
    free = max(1, units.at_most(FREE_REMOVALS, len(having) + told))
    if not leaving or len(leaving) + told <= free or _consented(given):
        return leaving, 0
    return {}, len(leaving)


def _removing(view: SiteView, now: datetime) -> bool:
    """Whether a site that left the placement was told so of late and is not done. One that never hears it is none of many."""
    return (
        view.site is not None
        and not view.placed
        and view.order is not None
        and view.order.state is State.REMOVE
        and now - units.instant(view.order.offered_at) < REMOVED_TOGETHER
    )


def _consented(given: Given) -> bool:
    newest = given.attempts.newest
    asked = approval_to_remove(given.model)
    return newest is not None and any(item.wave == asked for item in newest.spec.approvals)
