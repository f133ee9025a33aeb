"""The judgement of one canary step: gates by name, over what the serving pods counted.

No data is no verdict: a step without enough evidence is Inconclusive and holds, unless the order lets the golden
set stand in (`onNoTraffic: Golden`). Evidence that could not be read never lets anything stand in for it.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from edgepod.contract import LATENCY_BOUNDS_MS, HealthDocument, TrafficLease

from edgefleet.core import units
from edgefleet.core.order import Canary, Gates, OnNoTraffic, Step

LEASE_FRESH: Final = 10.0
"""Seconds after its pass during which the agent hands a traffic lease out; later it says that there is no canary."""
PATIENCE_MS: Final = 1000
"""Milliseconds a serving pod waits for the canary at least; longer where maxP99 allows more."""
_SLOWEST: Final = 0.01
_EPSILON: Final = 1e-9


class Outcome(StrEnum):
    """What a step has shown so far."""

    RUNNING = "Running"
    PASSED = "Passed"
    FAILED = "Failed"
    INCONCLUSIVE = "Inconclusive"


@dataclass(frozen=True, slots=True)
class Verdict:
    """An outcome, the gate that decided it, and why in words."""

    outcome: Outcome
    gate: str = ""
    reason: str = ""
    """CamelCase, for conditions."""
    message: str = ""


@dataclass(frozen=True, slots=True)
class Evidence:
    """What all serving pods together saw of the canary in one step."""

    requests: int = 0
    bad: int = 0
    """Errors, and answers that came too late to be used."""
    compared: int = 0
    agreed: int = 0
    latency: tuple[int, ...] = ()
    dropped: bool = False
    """A serving pod took the weight to 0 by itself."""
    complete: bool = False
    """Every serving pod was read and is in this step; what it says is all there is."""

    @property
    def agreement(self) -> float | None:
        """Share of compared answers that agreed; None without any."""
        return self.agreed / self.compared if self.compared else None


def gather(step_id: str, documents: Sequence[HealthDocument | None]) -> Evidence:
    """Add up what the serving pods saw. None stands for a pod that could not be read."""
    seen = [item.canary for item in documents if item is not None and item.canary is not None]
    inside = [item for item in seen if item.step == step_id]
    sides = [side for item in inside for side in (item.sent, item.shadowed)]
    return Evidence(
        requests=sum(side.requests for side in sides),
        bad=sum(min(side.requests, side.errors + side.late) for side in sides),
        compared=sum(item.agreed + item.disagreed for item in inside),
        agreed=sum(item.agreed for item in inside),
        latency=add_histograms([side.latency for side in sides]),
        dropped=any(item.dropped for item in inside),
        complete=bool(documents) and len(inside) == len(documents),
    )


def add_histograms(histograms: Sequence[Sequence[int]]) -> tuple[int, ...]:
    """Add histograms bucket by bucket; shorter ones end in zeros."""
    width = max((len(item) for item in histograms), default=0)
    return tuple(sum(item[i] for item in histograms if i < len(item)) for i in range(width))


def judge(step: Step, rules: Canary, evidence: Evidence, elapsed: float, *, golden_passed: bool) -> Verdict:
    """Say what a step has shown after `elapsed` seconds. A broken gate fails at once, a passed step waits for its duration."""
    failed = broken_gate(rules.gates, evidence)
    if failed is not None:
        return failed
    left = units.duration(step.duration) - elapsed
    if left > 0:
        return Verdict(Outcome.RUNNING, message=f"{evidence.requests} requests, {left:.0f} s left")
    if not evidence.complete:
        return Verdict(
            Outcome.INCONCLUSIVE, "traffic", "EvidenceUnreadable", "not every serving pod could be asked"
        )
    lacking = _lacking(step, rules.gates, evidence)
    if not lacking:
        return Verdict(Outcome.PASSED, message=f"{evidence.requests} requests, {evidence.bad} bad")
    if rules.on_no_traffic is OnNoTraffic.GOLDEN and golden_passed:
        return Verdict(Outcome.PASSED, "golden", "GoldenStandsIn", f"{lacking}; the golden set stands in")
    return Verdict(Outcome.INCONCLUSIVE, "traffic", "NotEnoughTraffic", lacking)


def broken_gate(gates: Gates, evidence: Evidence) -> Verdict | None:
    """Return the gate that the evidence breaks, however little of it there is; more of it would not mend that."""
    if evidence.dropped:
        return _fail(
            "errorRate",
            "CanaryFailing",
            "a serving pod stopped sending it traffic: too many bad answers in a row",
        )
    allowed = units.share(gates.max_error_rate) * max(evidence.requests, gates.min_requests)
    if evidence.bad > allowed + _EPSILON:
        return _fail(
            "errorRate",
            "ErrorRateTooHigh",
            f"{evidence.bad} of {evidence.requests} requests failed or were late; maxErrorRate is {gates.max_error_rate}",
        )
    return _too_slow(gates, evidence) or _disagrees(gates, evidence)


def _too_slow(gates: Gates, evidence: Evidence) -> Verdict | None:
    """Judge as soon as fast answers cannot make up for the slow ones. A bucket that holds the limit proves nothing."""
    if not gates.max_p99:
        return None
    limit = units.duration(gates.max_p99) * 1000
    slow = sum(
        count
        for edge, count in zip((0.0, *LATENCY_BOUNDS_MS), evidence.latency, strict=False)
        if edge >= limit
    )
    if slow <= _SLOWEST * max(evidence.requests, gates.min_requests) + _EPSILON:
        return None
    return _fail(
        "p99",
        "TooSlow",
        f"{slow} of {evidence.requests} answers took longer than maxP99, {gates.max_p99}, which 1 % may",
    )


def _disagrees(gates: Gates, evidence: Evidence) -> Verdict | None:
    if not gates.min_agreement:
        return None
    wanted = units.share(gates.min_agreement)
    allowed = (1 - wanted) * max(evidence.compared, gates.min_requests)
    different = evidence.compared - evidence.agreed
    if different <= allowed + _EPSILON:
        return None
    return _fail(
        "agreement",
        "DisagreesWithServing",
        f"{different} of {evidence.compared} answers differ from the serving model's; minAgreement is {gates.min_agreement}",
    )


def _fail(gate: str, reason: str, message: str) -> Verdict:
    return Verdict(Outcome.FAILED, gate, reason, message)


def _lacking(step: Step, gates: Gates, evidence: Evidence) -> str:
    if evidence.requests < gates.min_requests:
        return f"{evidence.requests} of {gates.min_requests} requests needed"
    if gates.min_agreement and step.shadow and evidence.compared < gates.min_requests:
        return f"{evidence.compared} of {gates.min_requests} comparisons needed"
    return ""


# -- how many pods, how much traffic -----------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class Split:
    """Replicas of the new and of the serving revision."""

    new: int
    old: int


def split(step: Step | None, wanted: int, serving: int) -> Split:
    """Replicas for a step; None means promotion: all of the new ones.

    New and old together are never more than the larger of both plus one, and one old pod is always left.
    Shadow copies are dropped when there are too many, so they need one pod only.
    """
    new = wanted if step is None else min(wanted, max(1, math.ceil(wanted * step.weight / 100)))
    peak = max(wanted, serving) + 1
    return Split(new, max(1, min(serving, peak - new)))


def next_scale(now: Split, goal: Split) -> Split | None:
    """One step of scaling towards the goal, new up before old down and never above the peak; None when there."""
    if now == goal:
        return None
    room = max(goal.new + goal.old, now.old, 2) - (now.new + now.old)
    if now.new < goal.new and (room > 0 or now.old <= goal.old):
        return Split(now.new + 1, now.old)
    if now.old > goal.old:
        return Split(now.new, now.old - 1)
    if now.new > goal.new:
        return Split(now.new - 1, now.old)
    return Split(now.new, now.old + 1)


def lease(step: Step, gates: Gates, step_id: str, address: str) -> TrafficLease:
    """What the serving pods are to do in a step; `address` is the canary's base URL."""
    allowed = round(units.duration(gates.max_p99) * 1000) if gates.max_p99 else 0
    return TrafficLease(
        step=step_id,
        canary=address,
        shadow=step.shadow,
        weight=step.weight,
        timeout_ms=max(PATIENCE_MS, allowed),
    )
