"""Random histories of a simulated site: whatever comes in whatever order, and wherever the agent dies.

I1 no refused revision is started · I6 a ready revision is never lost · I10 the Service selects only what is ready.
Every history ends at rest within ten simulated minutes once it is left alone.
"""

from typing import Any

import msgspec
import pytest
from edgefleet.core import names
from edgefleet.core.local import Create, Delete, LocalDecision, Patch
from edgefleet.core.order import Mode, OnNoTraffic, Order, State, Surge
from edgepod.contract import SelfTestReport
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule
from support.site import Behaviour, Site, environment, order

KINDS = {
    "good": Behaviour(),
    "fails its self-test": Behaviour(selftest=SelfTestReport(passed=False, reason="GoldenDisagrees")),
    "self-test blocked": Behaviour(selftest_exit=2),
    "crashes": Behaviour(start="crash"),
    "outgrows its memory": Behaviour(start="oom"),
    "never ready": Behaviour(start="never"),
    "no image": Behaviour(start="noimage"),
    "no memory": Behaviour(start="nomemory"),
    "fails under traffic": Behaviour(errors=0.3),
    "dropped by the pods": Behaviour(dropped=True),
    "no registry": Behaviour(fetch=environment("RegistryUnreachable")),
}


class Watched(Site):
    """A site that looks over the agent's shoulder."""

    def apply(self, decision: LocalDecision) -> None:
        match decision.action:
            case Create(kind="Deployment", manifest=manifest):
                self._may_start(manifest["metadata"]["labels"][names.REVISION])
            case Patch(kind="Service", name="team-digits", body=body):
                chosen = body["spec"]["selector"][names.REVISION]
                assert self.ready(chosen), f"I10: the Service is to select {chosen}, which has no ready pod"
            case Patch(kind="Deployment", name=name, body=body) if name.endswith(f"-{self.selected}"):
                assert body["spec"]["replicas"] >= 1 or self._swaps(), "I6: scaled what serves to nothing"
            case Delete(kind="Deployment", name=name):
                self._may_go(name.rsplit("-", 1)[1])
            case _:
                pass
        super().apply(decision)

    def _swaps(self) -> bool:
        """Whether the order allows a gap, the journal has declared it, and there is no room for both."""
        wanted, declared = self.order, self.record.swap
        assert wanted is not None
        assert self.room is not None, "a swap where both would fit"
        return (
            wanted.canary.surge is Surge.PREFERRED
            and declared is not None
            and declared.gap_seconds is None
            and (declared.revision, declared.attempt) == (wanted.revision, wanted.attempt)
        )

    def _may_start(self, revision: str) -> None:
        wanted = self.order
        assert wanted is not None
        if revision == wanted.revision and revision != self.selected:
            assert self.record.refusal_of(revision, wanted.attempt) is None, (
                "I1: a refused revision is started"
            )

    def _may_go(self, revision: str) -> None:
        wanted = self.order
        if wanted is not None and wanted.state is State.REMOVE:
            return
        assert revision != self.selected, "I6: what serves is deleted"
        declared = self.record.swap
        if declared is not None and declared.gap_seconds is None:
            return  # the newcomer of a swap that is called off makes place again
        if self.record.served_as(revision) is not None and self.ready(revision):
            assert self.ready(self.selected), "I6: the last ready revision is deleted"


class History(RuleBasedStateMachine):
    """Orders, crashes, kills and time, in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.site = Watched()
        self.given: list[Order] = []
        self.versions = 0
        self.had_one = False

    @initialize()
    def first(self) -> None:
        self._give("good", Mode.DIRECT, 1)

    def _give(self, kind: str, mode: Mode, replicas: int, **more: Any) -> None:
        self.versions += 1
        behaviour = Behaviour(**{**vars(KINDS[kind]), "version": self.versions})
        wanted = order(f"r{self.versions}", self.versions, mode=mode, replicas=replicas, **more)
        self.given.append(wanted)
        self.site.give(wanted, behaviour)

    @rule(
        kind=st.sampled_from(["good"] * len(KINDS) + sorted(KINDS)),
        mode=st.sampled_from(Mode),
        replicas=st.integers(1, 3),
        quiet=st.sampled_from(OnNoTraffic),
        surge=st.sampled_from(Surge),
    )
    def a_new_revision(self, kind: str, mode: Mode, replicas: int, quiet: OnNoTraffic, surge: Surge) -> None:
        self._give(kind, mode, replicas, on_no_traffic=quiet, surge=surge)

    @rule(room=st.sampled_from([None, 1, 2, 3]))
    def memory(self, room: int | None) -> None:
        self.site.room = room

    @rule(pick=st.integers(0, 20), forced=st.booleans())
    def back_to_an_earlier_one(self, pick: int, forced: bool) -> None:
        chosen = self.given[pick % len(self.given)]
        bundle = self.site.decide().report.active_bundle
        again = {"replaces": bundle, "mode": Mode.DIRECT} if forced else {}
        self.site.give(_changed(chosen, **again))

    @rule()
    def try_again(self) -> None:
        wanted = self.site.order
        assert wanted is not None
        self.site.give(_changed(wanted, attempt=wanted.attempt + 1))

    @rule(steps=st.integers(1, 12))
    def passes(self, steps: int) -> None:
        for _ in range(steps):
            decision = self.site.step()
            self.site.advance(max(0.05, min(decision.requeue_after, 1.0)))
        self.had_one = self.had_one or bool(self.site.ready(self.site.selected))

    @rule()
    def it_is_left_alone_for_a_while(self) -> None:
        for _ in range(150):
            decision = self.site.step()
            self.site.advance(max(0.05, min(decision.requeue_after, 1.0)))
            if decision.report.stage.value in ("Serving", "RolledBack") and decision.requeue_after > 10:
                break
        self.had_one = self.had_one or bool(self.site.ready(self.site.selected))

    @rule(seconds=st.floats(0.1, 40))
    def time_passes(self, seconds: float) -> None:
        self.site.advance(seconds)

    @rule(steps=st.integers(0, 3))
    def the_agent_dies(self, steps: int) -> None:
        for _ in range(steps):
            self.site.step()
        self.site.crash()

    @rule()
    def it_decides_and_dies_before_it_acts(self) -> None:
        self.site.decide()
        self.site.crash()

    @precondition(lambda self: bool(self.site.live(self.site.selected)))
    @rule(gone=st.booleans())
    def a_serving_pod_ends(self, gone: bool) -> None:
        (self.site.delete_pod if gone else self.site.kill_pod)(self.site.selected)

    @rule(pick=st.integers(0, 5), gone=st.booleans())
    def another_pod_ends(self, pick: int, gone: bool) -> None:
        others = sorted({pod.revision for pod in self.site.pods.values()} - {self.site.selected})
        alive = [item for item in others if self.site.live(item)]
        if alive:
            (self.site.delete_pod if gone else self.site.kill_pod)(alive[pick % len(alive)])

    @rule(rate=st.sampled_from([0.0, 1.0, 20.0]))
    def callers(self, rate: float) -> None:
        self.site.rate = rate

    def teardown(self) -> None:
        self.site.rate = 20.0
        if self.site.room is not None:  # less than what serves needs is nobody's to mend
            self.site.room = max(self.site.room, 3)
        decision = self.site.run(seconds=3000, until=self._at_rest)
        wanted, selected = self.site.order, self.site.selected
        assert wanted is not None
        if decision.report.stage.value == "Serving":
            assert selected == wanted.revision
            assert (
                sorted(pod.revision for pod in self.site.live(selected))
                == [selected] * wanted.serving.replicas
            )
        else:
            assert decision.report.stage.value in ("RolledBack", "Rejected", "Blocked")
        if self.had_one:
            assert self.site.ready(selected), "I10: nothing ready is selected at the end"

    def _at_rest(self) -> bool:
        told = self.site.reported
        assert told is not None
        if self.had_one and not self.site.ready(self.site.selected):
            return False  # its pod is just being started again
        at_rest = (told.stage.value, told.reason) == ("Serving", "Serving") or told.stage.value in (
            "Rejected",
        )
        blocked = told.stage.value == "Blocked"
        back = told.stage.value == "RolledBack" and self.site.decide().requeue_after > 10
        return at_rest or blocked or back


def _changed(wanted: Order, **fields: Any) -> Order:
    return msgspec.structs.replace(wanted, **fields)


TestHistories = pytest.mark.timeout(120)(History.TestCase)
History.TestCase.settings = settings(
    max_examples=60,
    stateful_step_count=25,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
