"""One look at a rollout: through its waves, against its limits, to what its status is to say."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

import msgspec

from edgefleet.core import cohorts, failures, holding, targets, units
from edgefleet.core.cohorts import Evidence
from edgefleet.core.failures import CATCHING_UP, Ledger
from edgefleet.core.fleet import Fleet
from edgefleet.core.seen import RolloutObject
from edgefleet.core.specs import FailureStrategy, RolloutPolicy
from edgefleet.core.statuses import Outcome, RolloutCounts, RolloutStatus, WaveStatus
from edgefleet.core.verdict import Verdict
from edgefleet.core.walking import Walk
from edgefleet.core.waves import Hold, Look


@dataclass(frozen=True, slots=True)
class Advance:
    """A rollout after one look."""

    status: RolloutStatus
    """Without conditions."""
    hold: Hold | None
    """None: it has ended."""
    admitted: Mapping[str, str] = field(default_factory=dict)
    """Wave by site: who is admitted now."""


def advance(look: Look) -> Advance:
    """Look at a running rollout once."""
    before = _unpaused(look)
    run = Walk(look, {wave.name: wave for wave in before.waves})
    ledger = failures.learn(look.rollout, look.fleet.views, run.wave_of, look.now, _keys(look.policy))
    run.judge_cohorts(ledger)
    run.count(ledger)
    if (breach := run.breach()) is not None:
        return _breached(look, _said(look, before, run, ledger), breach)
    hold = run.through()
    if run.overdue is not None:
        return _breached(look, _said(look, before, run, ledger), run.overdue)
    status = _said(look, before, run, ledger)
    if hold is None:
        done = msgspec.structs.replace(
            status, outcome=Outcome.COMPLETE, completed_at=units.timestamp(look.now)
        )
        return Advance(done, None)
    if held := holding.cohorts_held(status.holds, status.counts.held):
        hold = replace(hold, message=f"{hold.message}; {held}")
    return Advance(status, hold, run.admitted)


def _said(look: Look, before: RolloutStatus, run: Walk, ledger: Ledger) -> RolloutStatus:
    """The rollout's status as the walk has left it."""
    return msgspec.structs.replace(
        before,
        waves=run.statuses(),
        failures=ledger.listed,
        holds=run.ruling.holds,
        counts=_counts(look, ledger, run.held),
        started_at=before.started_at or units.timestamp(look.now),
    )


def watch(rollout: RolloutObject, policy: RolloutPolicy, fleet: Fleet, now: datetime) -> RolloutStatus:
    """A completed rollout's status with the sites that failed while catching up, and the cohorts that are held for it."""
    ledger = failures.learn(rollout, fleet.views, lambda _view: CATCHING_UP, now, _keys(policy))
    status = rollout.status
    counts = msgspec.structs.replace(status.counts, failed=ledger.total)
    status = msgspec.structs.replace(status, failures=ledger.listed, counts=counts)
    if not status.holds and (policy.cohorts is None or not ledger.known):
        return status
    evidence = Evidence(
        failures=ledger.known,
        healthy=[v for v in fleet.counted if targets.member(v, rollout) and cohorts.succeeded(v)],
        coming=(),
        placed=fleet.counted,
    )
    ruling = cohorts.judge(policy.cohorts, status.holds, evidence, units.timestamp(now))
    held = sum(cohorts.is_held(view, ruling.held) for view in fleet.counted) if ruling.held else 0
    counts = msgspec.structs.replace(counts, held=held)
    return msgspec.structs.replace(status, holds=ruling.holds, counts=counts)


def _keys(policy: RolloutPolicy) -> tuple[str, ...]:
    return policy.cohorts.by if policy.cohorts is not None else ()


def _breached(look: Look, status: RolloutStatus, breach: str) -> Advance:
    if look.policy.failure_strategy is FailureStrategy.PAUSE:
        text = (
            f"{breach}: raise maxFailures, or abort with `edgefleet rollout abort {look.rollout.meta.name}`"
        )
        return Advance(status, Hold("MaxFailuresExceeded", text, stalled=True))
    ended = msgspec.structs.replace(
        status, outcome=Outcome.ROLLED_BACK, completed_at=units.timestamp(look.now)
    )
    return Advance(ended, None)


def _unpaused(look: Look) -> RolloutStatus:
    """The status with its clocks moved by the time they stood still."""
    status = look.rollout.status
    if look.still:
        return msgspec.structs.replace(status, paused_at=status.paused_at or units.timestamp(look.now))
    if status.paused_at is None:
        return status
    stood = look.now - units.instant(status.paused_at)
    moved = tuple(_moved(wave, stood) for wave in status.waves)
    return msgspec.structs.replace(status, waves=moved, paused_at=None)


def _moved(wave: WaveStatus, by: timedelta) -> WaveStatus:
    if wave.soak_started_at is None or wave.completed_at is not None:
        return wave
    return msgspec.structs.replace(wave, soak_started_at=units.later(wave.soak_started_at, by))


def _counts(look: Look, ledger: Ledger, held: frozenset[str]) -> RolloutCounts:
    judged = look.verdicts
    tally = Counter([judged[name] for name in judged if name not in held] if held else judged.values())
    return RolloutCounts(
        desired=len(look.fleet.counted),
        admitted=tally.total(),
        in_flight=tally[Verdict.AT_WORK],
        healthy=tally[Verdict.HEALTHY],
        failed=ledger.total,
        held=len(held),
        blocked=tally[Verdict.BLOCKED],
        unreachable=tally[Verdict.UNREACHABLE],
    )
