"""The door of the hub's decisions about one EdgeModel."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime

import msgspec

from edgefleet.core import (
    advancing,
    attempts,
    desired,
    fleet,
    history,
    names,
    opening,
    starting,
    status,
    targets,
    unreadable,
)
from edgefleet.core.advancing import Advance
from edgefleet.core.attempts import Attempts, Course, Intent
from edgefleet.core.composing import Composer, write
from edgefleet.core.decisions import Finalizer, ModelDecision, ObjectDelete, RolloutCreate, RolloutPatch
from edgefleet.core.fleet import Fleet
from edgefleet.core.order import State
from edgefleet.core.seen import ModelObject, ModelSeen, RolloutObject, SpecError
from edgefleet.core.specs import DeletionPolicy, Desired, ModelSpec
from edgefleet.core.statuses import Outcome, RolloutStatus
from edgefleet.core.units import timestamp
from edgefleet.core.verdict import Verdict, judge
from edgefleet.core.waves import Hold, Look

SOON = 1.0
"""Seconds until the next look when this pass has only done its first half."""
REGISTRY_RETRY = 30.0


@dataclass(frozen=True, slots=True)
class Reasoning:
    """A decision about an EdgeModel that is to run, and what it was drawn from."""

    decision: ModelDecision
    spec: ModelSpec
    intent: Intent
    fleet: Fleet
    verdicts: Mapping[str, Verdict]
    """Of all sites whose orders say to run something."""
    attempts: Attempts
    """As they were when it looked, with the outcomes that followed."""
    look: Look | None
    """At the running rollout; None: there is none, or a new one is about to start."""
    hold: Hold | None
    """Why the running rollout is where it is."""
    orders: desired.Orders


def reason_about(seen: ModelSeen, now: datetime) -> Reasoning | None:
    """Decide, and keep what was thought on the way, for plan and explain. None: the model goes, or its spec is unreadable."""
    model = seen.model
    if model is None or model.meta.deleting or isinstance(model.spec, SpecError):
        return None
    return _Pass(seen, model, model.spec, now).reason()


def decide_model(seen: ModelSeen, now: datetime) -> ModelDecision:
    """What to do about an EdgeModel, its rollouts and its orders. `now` is the hub's clock, with its zone."""
    model = seen.model
    if model is None:
        return ModelDecision(status=None, delete_orders=_left_over(fleet.survey(seen, None, now), now))
    if model.meta.deleting:
        return _deleting(seen, model, now)
    finalizer = Finalizer.LEAVE if names.MODEL_FINALIZER in model.meta.finalizers else Finalizer.ADD
    if isinstance(model.spec, SpecError):
        return replace(unreadable.decide(seen, model, model.spec, now), finalizer=finalizer)
    return replace(_Pass(seen, model, model.spec, now).reason().decision, finalizer=finalizer)


# -- an EdgeModel that goes or is gone ----------------------------------------------------------------


def _deleting(seen: ModelSeen, model: ModelObject, now: datetime) -> ModelDecision:
    """Turn every order into the deletion policy, then let go; no site is waited for."""
    if names.MODEL_FINALIZER not in model.meta.finalizers:
        return ModelDecision(status=None)
    policy = model.spec.deletion_policy if isinstance(model.spec, ModelSpec) else DeletionPolicy.KEEP
    state = State.REMOVE if policy is DeletionPolicy.REMOVE and not seen.crd_deleting else State.KEEP
    views = fleet.survey(seen, None, now).views
    orders = tuple(
        write(
            view,
            seen.namespace,
            seen.name,
            msgspec.structs.replace(view.order, state=state, offered_at=timestamp(now)),
            "Removed" if state is State.REMOVE else "Kept",
        )
        for view in views
        if view.order is not None and view.order.state not in (state, State.REMOVE)
    )
    if orders:
        return ModelDecision(status=None, orders=orders, requeue_after=SOON)
    return ModelDecision(status=None, finalizer=Finalizer.DROP)


def _left_over(seen: Fleet, now: datetime) -> tuple[ObjectDelete, ...]:
    """Orders of an EdgeModel that is gone: deleted once carried out. One that says to run is left alone."""
    kept = tuple(
        ObjectDelete(name=view.meta.name, uid=view.meta.uid, site=view.name)
        for view in seen.views
        if view.meta is not None
        and view.order is not None
        and view.order.state is State.KEEP
        and (view.answered or desired.forgotten(view, view.order, now))
    )
    return desired.removed(seen.views, now) + kept


# -- an EdgeModel that is to run ----------------------------------------------------------------------


class _Pass:
    """One decision about a model with a valid spec."""

    def __init__(self, seen: ModelSeen, model: ModelObject, spec: ModelSpec, now: datetime) -> None:
        self.seen = seen
        self.model = model
        self.spec = spec
        self.now = now
        self.fleet = fleet.survey(seen, spec, now)
        self.verdicts = {view.name: judge(view, now) for view, _ in self.fleet.running}

    def reason(self) -> Reasoning:
        """Start an attempt, or move the present one and bring every order to its target."""
        found = attempts.survey(self.seen.rollouts)
        intent = attempts.intend(
            self.model, self.spec, found, self.fleet, self.seen.bundle, self.seen.pod_image
        )
        settled = attempts.survey(self._settled(found, intent))
        create = self._create(intent, found)
        look = None if create else self._look(settled, intent)
        advance = None if look is None else advancing.advance(look)
        moved = attempts.survey(self._moved(settled, advance))
        orders = self._orders(moved, advance)
        hold = advance.hold if advance is not None else None
        facts = status.Facts(
            self.model,
            self.spec,
            self.seen.bundle,
            intent,
            moved,
            self.fleet,
            self.verdicts,
            hold,
            orders,
            self.now,
        )
        decision = ModelDecision(
            status=status.of_model(facts),
            create_rollouts=create,
            patch_rollouts=self._patches(moved, hold, intent),
            orders=orders.writes,
            delete_orders=orders.deletes,
            delete_rollouts=history.prune(moved, self.fleet, self.spec.revision_history_limit),
            requeue_after=SOON if create else self._look_again(intent, hold, orders),
        )
        return Reasoning(decision, self.spec, intent, self.fleet, self.verdicts, settled, look, hold, orders)

    def _create(self, intent: Intent, found: Attempts) -> tuple[RolloutCreate, ...]:
        """The attempt that is due. The next pass, which sees it, admits sites to it and ends the one before."""
        if intent.course is not Course.START:
            return ()
        seen = self.seen
        return (starting.start(seen.name, self.model, self.spec, intent, found, self.fleet, seen.bundle),)

    def _settled(self, found: Attempts, intent: Intent) -> Iterable[RolloutObject]:
        """The rollouts with the outcomes that follow from one another and from the spec."""
        for item in found.all:
            outcome = found.outcomes[item.meta.name]
            if item is found.running and intent.course is Course.GIVE_UP:
                outcome = Outcome.ABORTED
            yield (
                item
                if outcome is item.status.outcome
                else attempts.with_status(item, self._ended(item.status, outcome))
            )

    def _ended(self, before: RolloutStatus, outcome: Outcome) -> RolloutStatus:
        return msgspec.structs.replace(
            before, outcome=outcome, completed_at=timestamp(self.now), paused_at=None
        )

    def _look(self, settled: Attempts, intent: Intent) -> Look | None:
        running = settled.running
        if running is None:
            return None
        counted = self.fleet.counted
        suspects = targets.suspects(counted, running, settled)
        held = frozenset(view.name for view in suspects if targets.held(view, running, settled))
        failed = frozenset(view.name for view in suspects if targets.failed(view, running, settled))
        older = [v for v in counted if targets.superseded_here(v, settled)] if settled.superseded else []
        return Look(
            rollout=running,
            policy=self.spec.rollout,
            fleet=self.fleet,
            verdicts=self._members(running),
            refusing=failed | held,
            held=held,
            first=frozenset(view.name for view in older),
            offers=intent.course is Course.FOLLOW,
            paused=self._paused(settled),
            now=self.now,
        )

    def _members(self, rollout: RolloutObject) -> dict[str, Verdict]:
        """Verdicts of the sites that count and whose orders belong to a rollout."""
        return {
            view.name: self.verdicts[view.name]
            for view, order in self.fleet.running
            if view.counted and targets.written_for(order, rollout)
        }

    def _paused(self, found: Attempts) -> bool:
        newest = found.newest
        return self.spec.paused or (newest is not None and newest.spec.desired is Desired.PAUSED)

    def _moved(self, settled: Attempts, advance: Advance | None) -> Iterable[RolloutObject]:
        """The rollouts with what this look has brought."""
        for item in settled.all:
            if item is settled.running and advance is not None:
                yield attempts.with_status(item, advance.status)
            elif item is settled.current:
                watched = advancing.watch(item, self.spec.rollout, self.fleet, self.now)
                yield attempts.with_status(item, watched)
            else:
                yield item

    def _orders(self, moved: Attempts, advance: Advance | None) -> desired.Orders:
        composer = Composer(
            namespace=self.seen.namespace,
            name=self.seen.name,
            spec=self.spec,
            attempts=moved,
            now=self.now,
        )
        return desired.plan(
            desired.Given(
                model=self.model,
                spec=self.spec,
                attempts=moved,
                fleet=self.fleet,
                verdicts=self.verdicts,
                admitted=advance.admitted if advance is not None else {},
                paused=self._paused(moved),
                composer=composer,
            )
        )

    def _patches(self, moved: Attempts, hold: Hold | None, intent: Intent) -> tuple[RolloutPatch, ...]:
        """Statuses that differ from what was seen; rollouts nobody withdrew also note the policy they stand with."""
        before = {item.meta.name: item.status for item in self.seen.rollouts}
        patches = []
        for item in reversed(moved.all):
            if item is moved.running and intent.course is Course.START:
                continue  # about to be superseded
            seen = before[item.meta.name]
            fresh = status.of_rollout(item, seen, hold, moved, self.now)
            marks = self._marks(item, moved, intent)
            if fresh != seen or marks:
                patches.append(RolloutPatch(item.meta.name, fresh if fresh != seen else None, marks))
        return tuple(patches)

    def _marks(self, item: RolloutObject, moved: Attempts, intent: Intent) -> dict[str, str] | None:
        """What has changed of the policy a rollout stands with.

        Kept for completed ones too: an edit without effect then must not allow another attempt once they are aborted.
        Not while the spec asks for something that cannot start yet: its retry is not used up.
        """
        if item is not moved.newest and item is not moved.current:
            return None
        if moved.banned(item.spec.revision, item.spec.attempt):
            return None
        if intent.course not in (Course.FOLLOW, Course.SETTLED):
            return None
        marks = attempts.policy_marks(self.model.meta, self.spec)
        known = item.meta.annotations
        return marks if any(known.get(key, "") != value for key, value in marks.items()) else None

    def _look_again(self, intent: Intent, hold: Hold | None, orders: desired.Orders) -> float | None:
        """Seconds until time alone may change something."""
        windows = opening.looks(self.fleet.counted, self.verdicts, self.now)
        waits = [self.fleet.changes_in, orders.changes_in, windows]
        if hold is not None:
            waits.append(hold.changes_in)
        if intent.course is Course.CHECKING:
            waits.append(REGISTRY_RETRY)
        if any(view.counted and not view.answered and view.online for view, _ in self.fleet.running):
            waits.append(REGISTRY_RETRY)
        return min((wait for wait in waits if wait is not None), default=None)
