"""Sharing traffic with a canary: callers never pay for it."""

import asyncio
import contextlib
import json
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
from edgepod import splitter
from edgepod.client import Client
from edgepod.contract import NO_CANARY, CanaryCounters, TensorSpec, TrafficLease, quantile_ms
from support import onnx_models, pods
from support.pods import Pod, Site

X = np.random.default_rng(1).normal(size=(4, 64)).astype(np.float32)
BODY = pods.json_request({"x": X})
INPUTS = (TensorSpec("x", "FP32", (-1, 64)),)
OUTPUTS = (TensorSpec("scores", "FP32", (-1, 10)),)


class Pair:
    """A serving pod and a canary in one site."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.folder, self._stack = folder, stack
        self.site: Site = stack.enter_context(pods.site())
        self.stable = self.start("stable0000", noise=0.0, agent=True)

    def start(self, revision: str, *, noise: float, agent: bool = False) -> Pod:
        model = onnx_models.linear(self.folder / f"{revision}.onnx", noise=noise)
        serving = self.site.serving(model, INPUTS, OUTPUTS, revision=revision)
        arguments = self.site.arguments(serving, self.folder / revision)
        more = self.site.agent("stable") if agent else []
        return self._stack.enter_context(pods.pod(*arguments, *more)).ready()

    def offer(self, step: str, canary: str, **more: object) -> None:
        """Give the serving pod a lease and wait until it has it."""
        self.site.leases["stable"] = TrafficLease(step=step, canary=canary, **more)  # type: ignore[arg-type]  # a test's shorthand
        pods.wait_for(
            lambda: (seen := self.stable.health().canary) is not None and seen.step == step, "lease not taken"
        )

    def end(self) -> None:
        self.site.leases["stable"] = NO_CANARY
        pods.wait_for(lambda: self.stable.health().canary is None, "lease not ended")

    def seen(self) -> CanaryCounters:
        counters = self.stable.health().canary
        assert counters is not None
        return counters

    def revisions(self, requests: int) -> list[str]:
        """Which revision answered each of so many requests, all of which must be answered."""
        answers = [self.stable.infer(BODY) for _ in range(requests)]
        assert {answer.status for answer in answers} == {200}
        return [answer.headers["edgefleet-revision"] for answer in answers]


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    with ExitStack() as stack:
        yield Pair(tmp_path_factory.mktemp("pair"), stack)


@pytest.fixture(scope="module")
def good(pair: Pair) -> Pod:
    return pair.start("canary0000", noise=0.0)


@pytest.fixture(scope="module")
def bent(pair: Pair) -> Pod:
    return pair.start("bent000000", noise=3.0)


class Fake:
    """A canary that misbehaves as told: status, or silence for so many seconds."""

    def __init__(self) -> None:
        self.status, self.pause, self.asked = 500, 0.0, 0
        self.url = ""

    def handler(self) -> type[pods._Quiet]:
        fake = self

        class Handler(pods._Quiet):
            def do_POST(self) -> None:  # noqa: N802  http.server calls it so
                self.rfile.read(int(self.headers["Content-Length"]))
                fake.asked += 1
                time.sleep(fake.pause)
                with contextlib.suppress(ConnectionError):  # who asked may have given up
                    self.answer(fake.status, b'{"error":"no"}')

        return Handler


@pytest.fixture
def fake() -> Iterator[Fake]:
    fake = Fake()
    with pods.http_server(fake.handler()) as fake.url:
        yield fake


def test_a_weight_sends_exactly_its_share_and_the_caller_gets_the_canarys_answer(
    pair: Pair, good: Pod
) -> None:
    pair.offer("weight-25", good.url, weight=25)
    revisions = pair.revisions(40)
    assert revisions.count("canary0000") == 10
    seen = pair.seen()
    assert (seen.sent.requests, seen.sent.errors, seen.sent.late, seen.dropped) == (10, 0, 0, False)
    assert sum(seen.sent.latency) == 10
    assert 0 < quantile_ms(seen.sent.latency, 0.99) < 1000


def test_a_new_step_starts_counting_at_zero(pair: Pair, good: Pod) -> None:
    pair.offer("before", good.url, weight=100)
    pair.revisions(3)
    assert pair.seen().sent.requests == 3
    pair.offer("after", good.url, weight=100)
    assert pair.seen().sent.requests == 0


def test_binary_answers_and_compression_go_through(pair: Pair, good: Pod) -> None:
    pair.offer("binary", good.url, weight=100)
    many = np.zeros((200, 64), dtype=np.float32)
    with Client(pair.stable.url) as client:
        answer = client.infer("m", {"x": many})
    assert answer.revision == "canary0000"
    assert answer.codecs == {"scores": "lz4"}
    np.testing.assert_array_equal(np.zeros((200, 10), dtype=np.float32), answer.outputs["scores"])


def test_a_request_for_a_version_stays_with_the_serving_pod(pair: Pair, good: Pod) -> None:
    pair.offer("version", good.url, weight=100)
    answer = pods.call(f"{pair.stable.url}/v2/models/m/versions/1/infer", BODY)
    assert answer.headers["edgefleet-revision"] == "stable0000"
    assert pair.seen().sent.requests == 0


def test_a_forwarded_request_is_never_forwarded_again(pair: Pair) -> None:
    pair.offer("loop", pair.stable.url, weight=100)
    assert pair.revisions(3) == ["stable0000"] * 3
    assert pair.seen().sent.requests == 3


def test_a_canary_that_fails_costs_callers_nothing_and_is_dropped(pair: Pair, fake: Fake) -> None:
    pair.offer("failing", fake.url, weight=100, max_consecutive_failures=4)
    assert pair.revisions(10) == ["stable0000"] * 10
    seen = pair.seen()
    assert (seen.sent.requests, seen.sent.errors, seen.dropped) == (4, 4, True)
    assert fake.asked == 4
    assert seen.weight == 0


def test_a_dropped_canary_gets_a_new_chance_in_a_new_step_only(pair: Pair, fake: Fake) -> None:
    pair.offer("one", fake.url, weight=100, max_consecutive_failures=1)
    pair.revisions(2)
    asked = fake.asked
    pair.offer("two", fake.url, weight=100, max_consecutive_failures=1)
    pair.revisions(1)
    assert fake.asked == asked + 1


def test_a_late_canary_costs_callers_its_timeout_at_most(pair: Pair, fake: Fake) -> None:
    fake.pause = 5.0
    pair.offer("late", fake.url, weight=100, timeout_ms=100, max_consecutive_failures=2)
    started = time.monotonic()
    assert pair.revisions(5) == ["stable0000"] * 5
    assert time.monotonic() - started < 2
    seen = pair.seen()
    assert (seen.sent.requests, seen.sent.errors, seen.sent.late, seen.dropped) == (2, 0, 2, True)


def test_a_dead_canary_costs_callers_nothing(pair: Pair) -> None:
    pair.offer("dead", "http://127.0.0.1:9", weight=50)
    assert pair.revisions(20) == ["stable0000"] * 20
    assert pair.seen().sent.errors == 5
    assert pair.seen().dropped


def test_a_canary_that_dies_between_requests_costs_callers_nothing(pair: Pair) -> None:
    dying = pair.start("dying00000", noise=0.0)
    pair.offer("dying", dying.url, weight=100)
    assert pair.revisions(3) == ["dying00000"] * 3
    dying.process.kill()
    dying.process.wait()
    assert pair.revisions(3) == ["stable0000"] * 3


def test_a_refusal_counts_against_the_canary_only_when_the_serving_model_can_answer(
    pair: Pair, fake: Fake
) -> None:
    fake.status = 400
    pair.offer("refusing", fake.url, weight=100)
    assert pair.stable.infer(b"nonsense").status == 400
    assert (pair.seen().sent.requests, pair.seen().sent.errors) == (1, 0)
    assert pair.revisions(1) == ["stable0000"]
    assert (pair.seen().sent.requests, pair.seen().sent.errors) == (2, 1)


def test_a_success_between_failures_keeps_the_canary(pair: Pair, fake: Fake) -> None:
    pair.offer("mixed", fake.url, weight=100, max_consecutive_failures=2)
    for status in (500, 200, 500, 200, 500):
        fake.status = status
        pair.stable.infer(BODY)
    assert (pair.seen().sent.requests, pair.seen().sent.errors, pair.seen().dropped) == (5, 3, False)


# -- shadow -------------------------------------------------------------------------------------------


def _shadowed(pair: Pair, requests: int) -> CanaryCounters:
    pods.wait_for(lambda: pair.seen().shadowed.requests >= requests, "copies are not sent")
    return pair.seen()


def test_shadow_answers_come_from_the_serving_pod_and_agreement_is_kept(pair: Pair, good: Pod) -> None:
    pair.offer("shadow-good", good.url, shadow=100)
    assert pair.revisions(8) == ["stable0000"] * 8
    seen = _shadowed(pair, 8)
    assert (seen.agreed, seen.disagreed, seen.shadowed.errors, seen.sent.requests) == (8, 0, 0, 0)


def test_a_canary_that_answers_otherwise_disagrees(pair: Pair, bent: Pod) -> None:
    pair.offer("shadow-bent", bent.url, shadow=100)
    with Client(pair.stable.url) as client:
        for _ in range(4):
            client.infer("m", {"x": X})
    seen = _shadowed(pair, 4)
    assert (seen.agreed, seen.disagreed) == (0, 4)


def test_a_share_of_requests_is_copied(pair: Pair, good: Pod) -> None:
    pair.offer("shadow-25", good.url, shadow=25)
    pair.revisions(20)
    assert _shadowed(pair, 5).shadowed.requests == 5


def test_a_slow_canary_in_shadow_delays_nobody_and_copies_are_bounded(pair: Pair, fake: Fake) -> None:
    fake.pause = 2.0
    pair.offer("shadow-slow", fake.url, shadow=100, timeout_ms=10_000)
    started = time.monotonic()
    pair.revisions(splitter.MAX_SHADOWS + 5)
    assert time.monotonic() - started < 2.0
    assert pair.seen().skipped == 5
    assert _shadowed(pair, splitter.MAX_SHADOWS).shadowed.errors == splitter.MAX_SHADOWS


def test_wrong_requests_are_not_copied(pair: Pair, good: Pod) -> None:
    pair.offer("shadow-wrong", good.url, shadow=100)
    assert pair.stable.infer(b"nonsense").status == 400
    pair.revisions(1)
    assert _shadowed(pair, 1).shadowed.requests == 1


# -- the lease ----------------------------------------------------------------------------------------


def test_a_lease_not_renewed_runs_out_and_its_counters_stay(pair: Pair, good: Pod) -> None:
    pair.offer("expiring", good.url, weight=100, ttl_seconds=1.5)
    assert pair.revisions(1) == ["canary0000"]
    assert pair.seen().weight == 100
    del pair.site.leases["stable"]
    pods.wait_for(lambda: pair.revisions(1) == ["stable0000"], "the lease does not run out", 5)
    assert (pair.seen().step, pair.seen().weight) == ("expiring", 0)
    pair.offer("expiring", good.url, weight=100)
    pods.wait_for(lambda: pair.revisions(1) == ["canary0000"], "the lease is not taken up again")


def test_the_agent_ends_the_sharing_at_once(pair: Pair, good: Pod) -> None:
    pair.offer("ending", good.url, weight=100)
    pair.end()
    assert pair.revisions(3) == ["stable0000"] * 3


@pytest.mark.parametrize("change", [{"protocol": 2}], ids=["a protocol of the future"])
def test_a_lease_the_pod_does_not_understand_means_no_canary(
    pair: Pair, good: Pod, change: dict[str, object]
) -> None:
    pair.offer("understood", good.url, weight=100)
    lease = json.loads(pair.site.leases["stable"].to_json()) | change
    pair.site.raw_leases["stable"] = json.dumps(lease).encode()
    try:
        pods.wait_for(lambda: pair.stable.health().canary is None, "the canary stays")
        assert pair.revisions(2) == ["stable0000"] * 2
    finally:
        del pair.site.raw_leases["stable"]


BROKEN_LEASES = {
    "no JSON": b"<html>",
    "no canary": b'{"step":"x"}',
    "weight a string": b'{"step":"x","canary":"http://a:1","weight":"5"}',
    "weight over 100": b'{"step":"x","canary":"http://a:1","weight":101}',
    "not http": b'{"step":"x","canary":"file:///etc/passwd","weight":100}',
}


@pytest.mark.parametrize("lease", BROKEN_LEASES.values(), ids=BROKEN_LEASES.keys())
def test_a_broken_lease_changes_nothing_until_the_old_one_runs_out(lease: bytes) -> None:
    async def story() -> None:
        with pods.site() as site:
            here = splitter.Splitter(site.url, "stable", "m")
            site.leases["stable"] = TrafficLease("old", "http://127.0.0.1:9", weight=100, ttl_seconds=60)
            await here.poll()
            site.raw_leases["stable"] = lease
            await here.poll()
            assert here.choose().forward
            counters = here.counters()
            assert counters is not None
            assert counters.step == "old"
            here.close()
            await asyncio.sleep(0)  # transports close in the loop's next turn

    asyncio.run(story())


def test_callers_at_full_speed_see_no_failure_while_the_canary_comes_and_goes(pair: Pair) -> None:
    stop = threading.Event()
    failures: list[str] = []
    answered = [0]

    def caller() -> None:
        with Client(pair.stable.url) as client:
            while not stop.is_set():
                try:
                    client.infer("m", {"x": X})
                    answered[0] += 1
                except Exception as error:  # noqa: BLE001 (whatever it is, a caller paid)
                    failures.append(repr(error))

    callers = [threading.Thread(target=caller) for _ in range(3)]
    for thread in callers:
        thread.start()
    try:
        canary = pair.start("brief00000", noise=0.0)
        pair.offer("brief", canary.url, weight=50, max_consecutive_failures=1000)
        pods.wait_for(lambda: pair.seen().sent.requests > 20, "nothing is sent")
        canary.process.kill()
        canary.process.wait()
        pods.wait_for(lambda: pair.seen().sent.errors > 20, "nothing fails")
    finally:
        stop.set()
        for thread in callers:
            thread.join()
    assert failures == []
    assert answered[0] > 100
