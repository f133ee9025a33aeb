"""One look at a rollout: through its waves, against its limits, to what its status is to say."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import msgspec

from edgefleet.core import failures, units
from edgefleet.core.failures import CATCHING_UP, Ledger
from edgefleet.core.fleet import Fleet
from edgefleet.core.seen import RolloutObject
from edgefleet.core.specs import FailureStrategy
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
    ledger = failures.learn(look.rollout, look.fleet.views, run.wave_of, look.now)
    run.count(ledger)
    if (breach := run.breach()) is not None:
        return _breached(look, _said(look, before, run, ledger), breach)
    hold = run.through()
    status = _said(look, before, run, ledger)
    if hold is None:
        done = msgspec.structs.replace(
            status, outcome=Outcome.COMPLETE, completed_at=units.timestamp(look.now)
        )
        return Advance(done, None)
    return Advance(status, hold, run.admitted)


def _said(look: Look, before: RolloutStatus, run: Walk, ledger: Ledger) -> RolloutStatus:
    """The rollout's status as the walk has left it."""
    return msgspec.structs.replace(
        before,
        waves=run.statuses(),
        failures=ledger.listed,
        counts=_counts(look, ledger),
        started_at=before.started_at or units.timestamp(look.now),
    )


def watch(rollout: RolloutObject, fleet: Fleet, now: datetime) -> RolloutStatus:
    """A completed rollout's status with the sites that failed while catching up."""
    ledger = failures.learn(rollout, fleet.views, lambda _view: CATCHING_UP, now)
    counts = msgspec.structs.replace(rollout.status.counts, failed=ledger.total)
    return msgspec.structs.replace(rollout.status, failures=ledger.listed, counts=counts)


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


def _counts(look: Look, ledger: Ledger) -> RolloutCounts:
    tally = Counter(look.verdicts.values())
    return RolloutCounts(
        desired=len(look.fleet.counted),
        admitted=len(look.verdicts),
        in_flight=tally[Verdict.AT_WORK],
        healthy=tally[Verdict.HEALTHY],
        failed=ledger.total,
        blocked=tally[Verdict.BLOCKED],
        unreachable=tally[Verdict.UNREACHABLE],
    )
