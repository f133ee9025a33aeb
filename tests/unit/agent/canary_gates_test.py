"""What a canary step has shown: each row a sentence."""

import pytest
from edgefleet.core import canary
from edgefleet.core.canary import Evidence, Outcome, Split
from edgefleet.core.order import Canary, Gates, OnNoTraffic, Step
from edgepod.contract import CanaryCounters, Counters, HealthDocument, bucket
from hypothesis import given
from hypothesis import strategies as st

SHADOW, WEIGHT = Step(shadow=100, duration="10s"), Step(weight=10, duration="10s")


def slow(milliseconds: float, requests: int) -> tuple[int, ...]:
    counts = [0] * 59
    counts[bucket(milliseconds)] = requests
    return tuple(counts)


def seen(requests: int, bad: int = 0, **more: object) -> Evidence:
    return Evidence(requests=requests, bad=bad, **{"complete": True, **more})  # type: ignore[arg-type]


ROWS = [
    ("nothing seen yet, time left: it runs", WEIGHT, {}, seen(0), 5, "Running", ""),
    ("enough seen, time left: it still runs", WEIGHT, {}, seen(500), 5, "Running", ""),
    ("enough seen, time over: it passes", WEIGHT, {}, seen(500), 10, "Passed", ""),
    ("one bad answer in a hundred is 1 %: it passes", WEIGHT, {}, seen(100, 1), 10, "Passed", ""),
    ("two bad answers fail at once: a hundred requests cannot make up for them", WEIGHT, {}, seen(5, 2), 1, "Failed", "errorRate"),
    ("one bad answer of few proves nothing yet", WEIGHT, {}, seen(5, 1), 1, "Running", ""),
    ("errors above the gate fail however much was seen", WEIGHT, {}, seen(1000, 11), 1, "Failed", "errorRate"),
    ("errors just at the gate pass", WEIGHT, {}, seen(1000, 10), 10, "Passed", ""),
    ("a pod that dropped the canary fails the step at once", WEIGHT, {}, seen(0, dropped=True), 0.1, "Failed", "errorRate"),
    ("no traffic, Golden, and the golden set passed: it stands in", WEIGHT, {}, seen(0), 10, "Passed", "golden"),
    ("a little good traffic is no reason against the stand-in", WEIGHT, {}, seen(40), 10, "Passed", "golden"),
    ("no traffic and Hold: it holds", WEIGHT, {"hold": True}, seen(0), 1000, "Inconclusive", "traffic"),
    ("no traffic and no golden pass: it holds", WEIGHT, {"golden": False}, seen(0), 1000, "Inconclusive", "traffic"),
    ("pods that cannot be asked hold it, Golden or not", WEIGHT, {}, seen(0, complete=False), 10, "Inconclusive", "traffic"),
    ("p99 surely above its gate fails", WEIGHT, {"p99": "50ms"}, seen(200, latency=slow(90, 200)), 1, "Failed", "p99"),
    ("p99 in the gate's own bucket proves nothing", WEIGHT, {"p99": "50ms"}, seen(200, latency=slow(49, 200)), 10, "Passed", ""),
    ("one slow answer of few proves nothing yet", WEIGHT, {"p99": "50ms"}, seen(50, latency=slow(90, 1)), 1, "Running", ""),
    ("two slow answers fail at once: a hundred requests cannot make up for them", WEIGHT, {"p99": "50ms"}, seen(5, latency=slow(90, 2)), 1, "Failed", "p99"),
    ("slow answers of too few requests are no case for the golden set", WEIGHT, {"p99": "50ms"}, seen(50, latency=slow(90, 50)), 10, "Failed", "p99"),
    ("one slow answer in a hundred is 1 %: it passes", WEIGHT, {"p99": "50ms"}, seen(100, latency=slow(90, 1)), 10, "Passed", ""),
    ("answers longer than any bucket are slow", WEIGHT, {"p99": "50ms"}, seen(200, latency=slow(60_000, 200)), 1, "Failed", "p99"),
    ("answers that differ too often fail in shadow", SHADOW, {"agree": "98%"}, seen(200, compared=200, agreed=190), 1, "Failed", "agreement"),
    ("answers that differ as often as allowed pass", SHADOW, {"agree": "98%"}, seen(200, compared=200, agreed=196), 10, "Passed", ""),
    ("three different answers of ten cannot be made up for", SHADOW, {"agree": "98%"}, seen(10, compared=10, agreed=7), 1, "Failed", "agreement"),
    ("too few comparisons hold a shadow step", SHADOW, {"agree": "98%", "hold": True}, seen(200, compared=20, agreed=20), 10, "Inconclusive", "traffic"),
    ("comparisons are not asked for in a weight step", WEIGHT, {"agree": "98%", "hold": True}, seen(200), 10, "Passed", ""),
    ("without minAgreement differing answers are not judged", SHADOW, {}, seen(200, compared=200, agreed=0), 10, "Passed", ""),
]  # fmt: skip


@pytest.mark.parametrize(("step", "how", "evidence", "elapsed", "outcome", "gate"), [row[1:] for row in ROWS], ids=[row[0] for row in ROWS])  # fmt: skip
def test_a_step(
    step: Step, how: dict[str, str], evidence: Evidence, elapsed: float, outcome: str, gate: str
) -> None:
    gates = Gates(
        max_error_rate="1%",
        min_requests=100,
        max_p99=how.get("p99", ""),
        min_agreement=how.get("agree", ""),
    )
    rules = Canary(gates=gates, on_no_traffic=OnNoTraffic.HOLD if how.get("hold") else OnNoTraffic.GOLDEN)

    verdict = canary.judge(step, rules, evidence, elapsed, golden_passed=bool(how.get("golden", True)))

    assert (verdict.outcome.value, verdict.gate) == (outcome, gate)
    assert verdict.outcome is Outcome.RUNNING or verdict.message


def document(step: str, sent: Counters, **more: object) -> HealthDocument:
    counted = CanaryCounters(step=step, sent=sent, **more)  # type: ignore[arg-type]
    return HealthDocument(start_id="a", revision="b", ready=True, served=Counters(), canary=counted)


def test_late_answers_count_as_errors() -> None:
    evidence = canary.gather("s1", [document("s1", Counters(requests=100, errors=1, late=2))])
    assert (evidence.requests, evidence.bad) == (100, 3)


def test_an_answer_that_is_an_error_and_late_counts_once_at_most_per_request() -> None:
    evidence = canary.gather("s1", [document("s1", Counters(requests=3, errors=3, late=3))])
    assert evidence.bad == 3


def test_counters_of_another_step_are_no_evidence() -> None:
    evidence = canary.gather("s2", [document("s1", Counters(requests=100))])
    assert (evidence.requests, evidence.complete) == (0, False)


def test_one_unreadable_pod_makes_the_evidence_incomplete() -> None:
    assert not canary.gather("s1", [document("s1", Counters(requests=100)), None]).complete


def test_no_pods_are_no_evidence() -> None:
    assert not canary.gather("s1", []).complete


SPLITS = [
    ("one replica: one of each", WEIGHT, 1, 1, Split(1, 1)),
    ("shadow needs one new pod only", SHADOW, 3, 3, Split(1, 3)),
    ("a tenth of three is one", WEIGHT, 3, 3, Split(1, 3)),
    ("half of three is two, and one old pod goes", Step(weight=50), 3, 3, Split(2, 2)),
    ("promotion leaves one old pod", None, 3, 3, Split(3, 1)),
    ("fewer replicas than before: old ones stay as many as fit", None, 1, 3, Split(1, 3)),
    ("more replicas than before", None, 4, 1, Split(4, 1)),
]


@pytest.mark.parametrize(("step", "wanted", "serving", "expected"), [row[1:] for row in SPLITS], ids=[row[0] for row in SPLITS])  # fmt: skip
def test_pods_of_a_step(step: Step | None, wanted: int, serving: int, expected: Split) -> None:
    assert canary.split(step, wanted, serving) == expected


@given(wanted=st.integers(1, 8), serving=st.integers(1, 8), weight=st.integers(0, 100), now=st.data())
def test_scaling_gets_there_one_pod_at_a_time_and_never_above_the_peak(
    wanted: int, serving: int, weight: int, now: st.DataObject
) -> None:
    at = Split(1, serving)
    peak = max(wanted, serving) + 1
    for goal in (canary.split(Step(weight=weight), wanted, serving), canary.split(None, wanted, serving)):
        for _ in range(2 * peak + 2):
            following = canary.next_scale(at, goal)
            if following is None:
                break
            assert abs(following.new - at.new) + abs(following.old - at.old) == 1
            assert following.old >= 1
            assert following.new + following.old <= peak
            at = following
        assert at == goal


@pytest.mark.parametrize(("gate", "patience"), [("", 1000), ("50ms", 1000), ("3s", 3000)])
def test_a_canary_that_may_take_longer_is_waited_for_longer(gate: str, patience: int) -> None:
    found = canary.lease(WEIGHT, Gates(max_p99=gate), "step", "http://canary")
    assert (found.timeout_ms, found.weight, found.shadow) == (patience, 10, 0)
