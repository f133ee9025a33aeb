"""Random histories of a simulated site: whatever comes in whatever order, and wherever the agent dies.

I1 no refused revision is started · I5 the way back is never gated · I6 a ready revision is never lost · I10 the Service
selects only what is ready · I12 clock steps change no verdict but windows'.
Every history ends at rest within ten simulated minutes once it is left alone and its windows are open.
"""

import os
from dataclasses import replace
from datetime import timedelta
from typing import Any, TypeVar

import msgspec
import pytest
from edgefleet.core import names
from edgefleet.core.local import (
    Create,
    Delete,
    LocalDecision,
    LocalSeen,
    Patch,
    Remember,
    StartFetch,
    StopFetch,
    Wait,
)
from edgefleet.core.local_view import STABLE_GRACE, View
from edgefleet.core.order import Mode, OnNoTraffic, Order, State, Surge, Swap
from edgefleet.core.site_pass import decide_local
from edgefleet.core.window import ALWAYS, NO_WINDOWS, SHUT, Windows
from edgepod.contract import SelfTestReport
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)
from support.site import Behaviour, Site, environment, order

_S = TypeVar("_S", bound=msgspec.Struct)
CLOSED = Windows(SHUT, SHUT)
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
    "fails once it is promoted": Behaviour(fades=True),
    "no registry": Behaviour(fetch=environment("RegistryUnreachable")),
}


class Watched(Site):
    """A site that looks over the agent's shoulder."""

    def decide(self) -> LocalDecision:
        decision, seen = super().decide(), self.see()
        for step in (timedelta(days=-400), timedelta(days=4000)):
            other = decide_local(seen, self.now, self.moment + step)
            assert _timeless(other) == _timeless(decision), "I12: a clock step changed a verdict"
        if seen.windows != NO_WINDOWS and seen.order is not None:
            self._gated_only(decision, seen)
        return decision

    def _gated_only(self, decision: LocalDecision, seen: LocalSeen) -> None:
        """Closed windows hold up beginnings, and nothing that leads back."""
        wanted = seen.order
        assert wanted is not None
        free = decide_local(replace(seen, windows=NO_WINDOWS), self.now, self.moment)
        if _timeless(free) == _timeless(decision):
            return
        view = View(seen, self.now, self.moment)
        assert not view.going_back, "I5: the way back is gated"
        assert self.record.refusal_of(wanted.revision, wanted.attempt) is None, "I5: leaving is gated"
        assert isinstance(decision.action, Wait | StopFetch)
        match free.action:
            case StartFetch() | Create(kind="Job"):
                assert view.deployment(wanted.revision) is None, "a canary under way is gated"
            case Create(kind="Deployment", manifest=manifest):
                assert manifest["metadata"]["labels"][names.REVISION] == wanted.revision != self.selected
            case Wait():
                assert isinstance(decision.action, StopFetch)
            case _:
                raise AssertionError(f"a window held up {free.why}")

    def _window(self, decision: LocalDecision) -> None:
        """What is begun is begun inside its window."""
        wanted = self.order
        if wanted is None or wanted.revision == self.selected or View(self.see(), 0, self.moment).going_back:
            return
        pods = ("Deployment", f"team-digits-{wanted.revision}") in self.objects
        match decision.action:
            case StartFetch():
                begun = pods or any(kind == "Job" for kind, _ in self.objects)
                assert self.windows.download.open or begun, "a download is begun outside its window"
            case Create(kind="Job"):
                assert self.windows.update.open or pods, "a self-test is begun outside the window"
            case Create(kind="Deployment", manifest=manifest):
                of = manifest["metadata"]["labels"][names.REVISION]
                assert self.windows.update.open or of != wanted.revision, "pods are begun outside the window"
            case Remember(record) if record.swap is not None and record.swap.gap_seconds is None:
                declared = self.record.swap is not None and self.record.swap.since == record.swap.since
                assert self.windows.update.open or declared, "a swap is begun outside the window"
            case _:
                pass

    def apply(self, decision: LocalDecision) -> None:
        self._window(decision)
        served = bool(self.ready(self.selected))
        self._promises(decision)
        super().apply(decision)
        if served and not self.ready(self.selected) and not self.behaviours[self.selected].fades:
            assert self._swaps(), f"I10: nothing ready is selected any more: {decision.why}"

    def _promises(self, decision: LocalDecision) -> None:
        match decision.action:
            case Create(kind="Service", manifest=manifest) if manifest["metadata"]["name"] == "team-digits":
                chosen = manifest["spec"]["selector"][names.REVISION]
                assert chosen in self.good() or not self.good(), (
                    f"I10: a Service for {chosen}, which is not ready"
                )
            case Create(kind="Deployment", manifest=manifest):
                self._may_start(manifest["metadata"]["labels"][names.REVISION])
            case Patch(kind="Service", name="team-digits", body=body):
                chosen = body["spec"]["selector"][names.REVISION]
                led_astray = self.record.served_as(self.selected) is None and not self.good()
                assert self.ready(chosen) or led_astray, (
                    f"I10: the Service is to select {chosen}, which has no ready pod"
                )
            case Patch(kind="Deployment", name=name, body=body) if name.endswith(f"-{self.selected}"):
                assert body["spec"]["replicas"] >= 1 or self._swaps(), "I6: scaled what serves to nothing"
            case Delete(kind="Deployment", name=name):
                self._may_go(name.rsplit("-", 1)[1])
            case _:
                pass

    def good(self) -> list[str]:
        """Revisions that passed everything here, were not refused since, and are ready."""
        record = self.record
        return [
            item.revision
            for item in record.served
            if record.refusal_of(item.revision, item.order.attempt) is None and self.ready(item.revision)
        ]

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


def _timeless(decision: LocalDecision) -> tuple[Any, ...]:
    """A decision without the times it stamps, and without the gap it measures by them if the agent died in it."""
    action, report = decision.action, decision.report
    if isinstance(action, Remember):
        refused = tuple(_changed(item, time="") for item in action.record.refused)
        action = Remember(_changed(action.record, refused=refused, swap=_timeless_swap(action.record.swap)))
    swap = _timeless_swap(report.swap)
    untold = {"message": ""} if swap is not None and swap.gap_seconds is not None else {}
    conditions = tuple(_changed(item, last_transition_time="", **untold) for item in report.conditions)
    refused = tuple(_changed(item, time="") for item in report.refused)
    told = _changed(report, conditions=conditions, refused=refused, swap=swap, **untold)
    return action, told, decision.progress, decision.leases


def _timeless_swap(swap: Swap | None) -> Swap | None:
    if swap is None:
        return None
    return _changed(swap, since="", gap_seconds=None if swap.gap_seconds is None else 0.0)


class History(RuleBasedStateMachine):
    """Orders, crashes, kills and time, in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.site = Watched()
        self.given: list[Order] = []
        self.versions = 0
        self.had_one = False
        self.ill = ""
        """The revision that somebody has made unable to start."""

    @initialize(served=st.integers(0, 2))
    def first(self, served: int) -> None:
        """Random steps alone hardly ever bring a second revision to serve, and then there is no way back to gate."""
        for _ in range(served):
            self._give("good", Mode.DIRECT, 1)
            self.it_is_left_alone_for_a_while()
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

    @rule(
        kind=st.sampled_from(["good", *sorted(KINDS)]),
        mode=st.sampled_from(Mode),
        surge=st.sampled_from(Surge),
    )
    def a_new_revision_without_room(self, kind: str, mode: Mode, surge: Surge) -> None:
        self.site.room = max(1, len(self.site.pods))
        self._give(kind, mode, max(1, len(self.site.live(self.site.selected))), surge=surge)
        self.it_is_left_alone_for_a_while()

    @rule(kind=st.sampled_from(["good", *sorted(KINDS)]), mode=st.sampled_from(Mode))
    def a_new_revision_and_time(self, kind: str, mode: Mode) -> None:
        self._give(kind, mode, 1)
        self.it_is_left_alone_for_a_while()

    @rule(what=st.sampled_from(["never", "crash", "nopod"]), long=st.booleans())
    def what_serves_falls_ill(self, what: str, long: bool) -> None:
        """It works no more, for so long at times that a newcomer is not compared with it."""
        self._heal()
        self.ill = self.site.selected
        if self.ill in self.site.behaviours:
            self.site.behaviours[self.ill].start = what
        if long:
            self.site.watch(STABLE_GRACE + 10)

    def _heal(self) -> None:
        for revision in {self.ill} & set(self.site.behaviours):
            self.site.behaviours[revision].start = "ready"
        self.ill = ""

    @rule()
    def it_is_well_again(self) -> None:
        self._heal()

    @rule(kind=st.sampled_from(["Service", "Deployment"]), steps=st.integers(0, 2))
    def somebody_deletes(self, kind: str, steps: int) -> None:
        site = self.site
        name = "team-digits" if kind == "Service" else f"team-digits-{site.selected}"
        if site.objects.pop((kind, name), None) is not None and kind == "Deployment":
            for pod in site.live(site.selected):
                site.terminating[pod.name] = site.now + 2
        self.passes(steps)

    @rule(pick=st.integers(0, 5))
    def somebody_edits_the_selector(self, pick: int) -> None:
        known = [*sorted({item.revision for item in self.given}), "unheard-of"]
        service = self.site.objects.get(("Service", "team-digits"))
        if service is not None:
            service["spec"]["selector"][names.REVISION] = known[pick % len(known)]

    @rule(pick=st.integers(0, 20), forced=st.booleans(), told=st.booleans())
    def back_to_an_earlier_one(self, pick: int, forced: bool, told: bool) -> None:
        chosen = self.given[pick % len(self.given)]
        bundle = self.site.decide().report.active_bundle
        again = {"replaces": bundle, "mode": Mode.DIRECT, "go_back": told} if forced else {}
        self.site.give(_changed(chosen, **again))

    @rule(closed=st.booleans())
    def back_to_what_served_here(self, closed: bool) -> None:
        site = self.site
        earlier = [item.order for item in site.record.served if item.revision != site.selected]
        if earlier:
            bundle = site.decide().report.active_bundle
            site.windows = CLOSED if closed else site.windows
            site.give(_changed(earlier[-1], replaces=bundle, mode=Mode.DIRECT))

    @rule()
    def try_again(self) -> None:
        wanted = self.site.order
        assert wanted is not None
        self.site.give(_changed(wanted, attempt=wanted.attempt + 1))

    @rule(download=st.booleans(), update=st.booleans())
    def windows_open_or_close(self, download: bool, update: bool) -> None:
        self.site.windows = Windows(ALWAYS if download else SHUT, ALWAYS if update else SHUT)

    @rule(hours=st.integers(-10_000, 10_000))
    def somebody_sets_the_clock(self, hours: int) -> None:
        self.site.clock_off = timedelta(hours=hours)

    @rule(seconds=st.sampled_from([None, 3.0, 30.0]))
    def the_link_changes(self, seconds: float | None) -> None:
        self.site.downloading = seconds

    @rule(steps=st.integers(1, 12))
    def passes(self, steps: int) -> None:
        for _ in range(steps):
            decision = self.site.step()
            self.site.advance(max(0.05, min(decision.requeue_after, 1.0)))
        self.had_one = self.had_one or bool(self.site.ready(self.site.selected))

    @rule()
    def it_is_left_alone_for_a_while(self) -> None:
        idle = 0
        for _ in range(200):
            decision = self.site.step()
            self.site.advance(max(0.05, min(decision.requeue_after, 1.0)))
            idle = idle + 1 if isinstance(decision.action, Wait) else 0
            if idle > 40 or (idle and decision.requeue_after > 10):
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
        self._heal()
        if self.site.room is not None:  # less than what serves needs is nobody's to mend
            self.site.room = max(self.site.room, 3)
        self.site.windows = NO_WINDOWS
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
            self._all_pods_are_back()
        if self.had_one:
            assert self.site.ready(selected), "I10: nothing ready is selected at the end"

    def _all_pods_are_back(self) -> None:
        """Whoever was given up keeps no room that what serves had."""
        site, served = self.site, self.site.record.served_as(self.site.selected)
        newcomers = {
            revision
            for revision in site.behaviours
            if ("Deployment", f"team-digits-{revision}") in site.objects
        }
        if served is not None and newcomers == {site.selected}:
            assert len(site.live(site.selected)) == served.order.serving.replicas, (
                "I6: it has lost pods for good"
            )

    def _at_rest(self) -> bool:
        told, serving = self.site.reported, self.site.behaviours.get(self.site.selected)
        assert told is not None
        if serving is not None and serving.fades and not self.site.good():
            serving.fades = False  # there is nothing to go back to: somebody mends it
        if self.had_one and not self.site.ready(self.site.selected):
            return False  # its pod is just being started again
        at_rest = (told.stage.value, told.reason) == ("Serving", "Serving") or told.stage.value in (
            "Rejected",
        )
        blocked = told.stage.value == "Blocked"
        back = told.stage.value == "RolledBack" and self.site.decide().requeue_after > 10
        return at_rest or blocked or back


def _changed(wanted: _S, **fields: Any) -> _S:
    return msgspec.structs.replace(wanted, **fields)


TestHistories = pytest.mark.timeout(300)(History.TestCase)
History.TestCase.settings = settings(
    max_examples=60,
    stateful_step_count=25,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)


@pytest.mark.soak
@pytest.mark.timeout(0)
def test_no_long_history_of_a_site_breaks_a_promise() -> None:
    """Other histories each time: HISTORIES of them (default 2000), longer ones."""
    run_state_machine_as_test(  # type: ignore[no-untyped-call]
        History,
        settings=settings(
            max_examples=int(os.environ.get("HISTORIES", "2000")),
            stateful_step_count=60,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            print_blob=True,
        ),
    )
