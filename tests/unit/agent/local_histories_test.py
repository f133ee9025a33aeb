"""Random histories of a simulated site: whatever comes in whatever order, and wherever the agent dies.

I1 no refused revision is started · I5 the way back is never gated · I6 a ready revision is never lost · I10 the Service
selects only what is ready · I12 clock steps change no verdict but windows'.
Every history ends at rest within ten simulated minutes once it is left alone and its windows are open.
"""

import os
from datetime import timedelta
from typing import Any

import pytest
from edgefleet.core import names
from edgefleet.core.local import (
    Wait,
)
from edgefleet.core.local_view import STABLE_GRACE
from edgefleet.core.order import Mode, OnNoTraffic, Order, Surge
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
from support.site import Behaviour, environment, order
from support.watched import Watched, changed

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
ENDINGS = ("good", "good", "never ready", "fails under traffic", "fails once it is promoted")
"""Of revisions that get far enough for something to be taken back."""


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

    @rule(kind=st.sampled_from(ENDINGS), mode=st.sampled_from(Mode), surge=st.sampled_from(Surge))
    def a_new_revision_without_room(self, kind: str, mode: Mode, surge: Surge) -> None:
        self.site.room = max(1, len(self.site.pods))
        self._give(kind, mode, max(1, len(self.site.live(self.site.selected))), surge=surge)
        self.it_is_left_alone_for_a_while()

    @rule(kind=st.sampled_from(ENDINGS), replicas=st.integers(1, 3))
    def a_new_revision_and_time(self, kind: str, replicas: int) -> None:
        self._give(kind, Mode.CANARY, replicas)
        self.it_is_left_alone_for_a_while()

    @rule(what=st.sampled_from(["never", "crash", "nopod"]), long=st.booleans())
    def what_serves_falls_ill(self, what: str, long: bool) -> None:
        """It works no more, for so long at times that a newcomer is not compared with it."""
        self._falls_ill(self.site.selected, what)
        if long:
            self.site.watch(STABLE_GRACE + 10)

    def _falls_ill(self, revision: str, what: str) -> None:
        self._heal()
        self.ill = revision
        if revision in self.site.behaviours:
            self.site.behaviours[revision].start = what

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
        self.site.give(changed(chosen, **again))

    @rule(closed=st.booleans())
    def back_to_what_served_here(self, closed: bool) -> None:
        site = self.site
        earlier = [item.order for item in site.record.served if item.revision != site.selected]
        if earlier:
            bundle = site.decide().report.active_bundle
            site.windows = CLOSED if closed else site.windows
            site.give(changed(earlier[-1], replaces=bundle, mode=Mode.DIRECT))

    @rule()
    def try_again(self) -> None:
        wanted = self.site.order
        assert wanted is not None
        self.site.give(changed(wanted, attempt=wanted.attempt + 1))

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


TestHistories = pytest.mark.timeout(300)(History.TestCase)
History.TestCase.settings = settings(
    max_examples=45,
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
