"""What EdgeModel and EdgeRollout say of themselves, from what was seen only."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Final

import msgspec

from edgefleet.core import attempts as tries
from edgefleet.core import conditions, holding, names, revision, targets
from edgefleet.core.attempts import Attempts, Course, Intent
from edgefleet.core.conditions import FALSE, TRUE, UNKNOWN, State
from edgefleet.core.desired import Orders, approval_to_remove
from edgefleet.core.fleet import Fleet
from edgefleet.core.seen import BundleCheck, ModelObject, RolloutObject
from edgefleet.core.specs import ModelSpec
from edgefleet.core.statuses import BundleStatus, ModelStatus, Outcome, RolloutStatus, SiteCounts
from edgefleet.core.verdict import Verdict
from edgefleet.core.waves import Hold

ACCEPTED = "Accepted"
_HEALTHY: Final = Verdict.HEALTHY
_UNREACHABLE: Final = Verdict.UNREACHABLE
_ENDED_BADLY = (Outcome.ROLLED_BACK, Outcome.ABORTED)


@dataclass(frozen=True)
class Facts:
    """What a model's status follows from."""

    model: ModelObject
    spec: ModelSpec
    bundle: BundleCheck | None
    """What the look-up of a bundle came to; None: none was made yet."""
    intent: Intent
    attempts: Attempts
    fleet: Fleet
    verdicts: Mapping[str, Verdict]
    """Of all sites whose orders say to run something."""
    hold: Hold | None
    """Of the running rollout."""
    orders: Orders
    now: datetime

    @cached_property
    def sites(self) -> SiteCounts:
        """Sites by what is known of them."""
        return _sites(self)


# -- EdgeModel ----------------------------------------------------------------------------------------


def of_invalid(model: ModelObject, message: str, now: datetime) -> ModelStatus:
    """An EdgeModel whose spec cannot be read: everything else stays as it was."""
    states = {
        ACCEPTED: (FALSE, "InvalidSpec", message),
        **conditions.stalled("InvalidSpec", message),
    }
    return msgspec.structs.replace(
        model.status,
        observed_generation=model.meta.generation,
        conditions=conditions.build(states, model.status.conditions, model.meta.generation, now),
    )


def of_model(facts: Facts) -> ModelStatus:
    """The whole status of an EdgeModel."""
    model, attempts = facts.model, facts.attempts
    states = {ACCEPTED: _accepted(facts), **_progress(facts)}
    current, newest = attempts.current, attempts.newest
    return ModelStatus(
        observed_generation=model.meta.generation,
        conditions=conditions.build(states, model.status.conditions, model.meta.generation, facts.now),
        current_revision=current.spec.revision if current else "",
        current_bundle=current.spec.bundle if current else "",
        target_revision=facts.intent.wanted.revision,
        rollout=newest.meta.name if newest else model.status.rollout,
        bundle=_bundle(facts),
        sites=facts.sites,
    )


def _bundle(facts: Facts) -> BundleStatus | None:
    """What is known of the bundle: as just looked up, else as it was; it outlives the operator and its registry."""
    found, known = facts.bundle, facts.model.status.bundle
    if found is not None and found.ok and found.bundle == facts.spec.bundle:
        return BundleStatus(reference=found.bundle, version=found.version, variants=found.needs)
    same = known is not None and revision.bundle_digest(known.reference) == revision.bundle_digest(
        facts.spec.bundle
    )
    return known if same else None


def _accepted(facts: Facts) -> State:
    """Whether the spec is valid and its bundle verified: by a look-up of exactly that reference, or a rollout that had one.

    A registry that cannot be asked any more takes nothing back; a bundle found to be no good does.
    """
    found = facts.intent
    if found.course not in (Course.CHECKING, Course.BUNDLE_INVALID):
        found = tries.accepted(found.wanted, facts.spec, facts.bundle)
        remembered = any(item.spec.bundle == facts.spec.bundle for item in facts.attempts.all)
        if found.course is Course.START or (found.course is Course.CHECKING and remembered):
            text = "the spec is valid; the bundle exists and is signed by a trusted key"
            return (TRUE, "BundleVerified", text)
    return (UNKNOWN if found.reason == "Checking" else FALSE, found.reason, found.message)


def _progress(facts: Facts) -> dict[str, State]:
    """Ready, Reconciling and Stalled: the first thing that keeps the model from being ready."""
    intent = facts.intent
    match intent.course:
        case Course.BUNDLE_INVALID:
            return conditions.stalled("BundleInvalid", f"{intent.reason}: {intent.message}")
        case Course.CHECKING:
            return conditions.reconciling(intent.reason, intent.message)
        case Course.NO_SITES | Course.FAILED_BEFORE:
            return conditions.stalled(intent.course.value, intent.message)
        case Course.START:
            return conditions.reconciling(
                "NewRevision", f"revision {intent.wanted.revision} is about to start"
            )
        case Course.FOLLOW | Course.GIVE_UP | Course.SETTLED:
            return _following(facts)


def _following(facts: Facts) -> dict[str, State]:
    newest = facts.attempts.newest
    if facts.orders.braked:
        return conditions.stalled("RemovalNeedsApproval", _brake(facts, facts.orders.braked))
    if facts.fleet.nobody:
        return conditions.stalled("NoSitesMatch", facts.fleet.nobody)
    if facts.hold is not None:
        say = conditions.stalled if facts.hold.stalled else conditions.reconciling
        return say(facts.hold.reason, facts.hold.message)
    settled = facts.intent.course in (Course.GIVE_UP, Course.SETTLED)
    if newest is not None and not settled and facts.attempts.outcomes[newest.meta.name] in _ENDED_BADLY:
        outcome = facts.attempts.outcomes[newest.meta.name]
        return conditions.stalled(outcome.value, ended_badly(newest, outcome, facts.attempts))
    if facts.orders.broken:
        return conditions.stalled("CatchUpFailing", facts.orders.broken)
    return conditions.ready("Complete", _complete(facts))


def _brake(facts: Facts, sites: int) -> str:
    newest = facts.attempts.newest
    name = newest.meta.name if newest else facts.model.meta.name
    return (
        f"{sites} sites left the placement; nothing is removed until the selector is put right or a person consents: "
        f"`edgefleet rollout approve {name} --wave {approval_to_remove(facts.model)}`"
    )


def _complete(facts: Facts) -> str:
    counts, current = facts.sites, facts.attempts.current
    digest = revision.bundle_digest(current.spec.bundle) if current else ""
    text = f"revision {current.spec.revision if current else ''} ({digest}) serves at {counts.updated} of {counts.desired} sites"
    if counts.desired > counts.updated:
        text += f"; {counts.unreachable} unreachable will catch up, {counts.blocked} blocked"
    held = holding.cohorts_held(current.status.holds, counts.held) if current is not None else ""
    return f"{text}; {held}" if held else text


def ended_badly(rollout: RolloutObject, outcome: Outcome, attempts: Attempts) -> str:
    """What failed, where first and why, and what serves instead: both digests, for people and dashboards."""
    spec = rollout.spec
    text = f"revision {spec.revision} ({revision.bundle_digest(spec.bundle)}) "
    text += "was aborted" if outcome is Outcome.ABORTED else "failed and was taken back"
    if rollout.status.failures:
        first = rollout.status.failures[0]
        text += f": {rollout.status.counts.failed} failed, first {first.site} with {first.reason}: {first.message}"
    good, act = (
        attempts.current,
        f"apply another bundle, or annotate the EdgeModel with a new value of {names.RETRY}",
    )
    if good is None:
        return f"{text}; there is no good revision to go back to, sites are left as they are: {act}"
    digest = revision.bundle_digest(good.spec.bundle)
    return f"{text}; sites serve revision {good.spec.revision} ({digest}): {act}"


def _sites(facts: Facts) -> SiteCounts:
    wanted = facts.intent.wanted.revision
    last, attempts = facts.attempts.last_of(wanted), facts.attempts
    verdicts, counted = facts.verdicts, facts.fleet.counted
    tally = Counter([verdicts.get(view.name) for view in counted])
    healthy = [view for view in counted if verdicts.get(view.name) is _HEALTHY]
    unheard = [v for v in counted if not v.online and verdicts.get(v.name) is not _UNREACHABLE]
    suspects = targets.suspects(counted, last, attempts) if last is not None else ()
    return SiteCounts(
        desired=len(counted),
        updated=sum(view.running is not None and view.running.revision == wanted for view in healthy),
        healthy=len(healthy),
        unreachable=tally[_UNREACHABLE] + len(unheard),
        failed=sum(last is not None and targets.failed(view, last, attempts) for view in suspects),
        held=sum(last is not None and targets.held(view, last, attempts) for view in suspects),
        blocked=tally[Verdict.BLOCKED],
        unfit=len(facts.fleet.unfit),
        quarantined=len(facts.fleet.quarantined),
    )


# -- EdgeRollout --------------------------------------------------------------------------------------


def of_rollout(
    rollout: RolloutObject, before: RolloutStatus, hold: Hold | None, attempts: Attempts, now: datetime
) -> RolloutStatus:
    """The rollout's status with its conditions. What ended long ago keeps what it said then."""
    status, generation = rollout.status, rollout.meta.generation
    outcome = status.outcome
    if outcome is not Outcome.NONE and outcome is before.outcome and before.conditions:
        return msgspec.structs.replace(status, observed_generation=generation, conditions=before.conditions)
    match outcome:
        case Outcome.NONE:
            states = _running(hold)
        case Outcome.COMPLETE:
            held = holding.cohorts_held(status.holds, status.counts.held)
            text = f"{status.counts.healthy} of {status.counts.desired} sites healthy"
            states = conditions.ready("Complete", f"{text}; {held}" if held else text)
        case Outcome.SUPERSEDED:
            states = conditions.stalled("Superseded", "a newer revision was asked for")
        case Outcome.ROLLED_BACK | Outcome.ABORTED:
            states = conditions.stalled(outcome.value, ended_badly(rollout, outcome, attempts))
    built = conditions.build(states, before.conditions, generation, now)
    return msgspec.structs.replace(status, observed_generation=generation, conditions=built)


def _running(hold: Hold | None) -> dict[str, State]:
    if hold is None:
        return conditions.reconciling("WaveRunning", "")
    say = conditions.stalled if hold.stalled else conditions.reconciling
    return say(hold.reason, hold.message)
