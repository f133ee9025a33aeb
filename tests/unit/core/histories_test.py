"""Random histories of a simulated fleet, searched for one in which the hub breaks a promise.

Sites accept orders, succeed, fail, are blocked, cut off, relabelled, cordoned, deleted and come back; people edit,
pause, abort, approve, retry; the operator is killed between any two writes. The invariants are those of the design.
"""

import os
import pickle
from datetime import timedelta
from typing import Any

import hypothesis.strategies as st
import pytest
from edgefleet.core import quarantine
from edgefleet.core.statuses import VariantNeeds
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import initialize, invariant, precondition, rule, run_state_machine_as_test
from support import facts, timely
from support.happenings import BUNDLES, LABELS, QUARANTINE, SITES, SOME, WHOLE
from support.hubs import MODEL, Hub, model_raw
from support.kinds import (
    Offers,
    check_catching_up,
    check_kinds,
    nobody_stays,
    note_offers,
    the_clock_holds_nobody,
)
from support.people import POLICIES, People
from support.promises import check, clocks_do_not_matter, order_does_not_matter
from support.resting import comes_to_rest

NEEDS = (VariantNeeds(name="int8", cpu_features=("avx512_vnni",)),)
BANNED = ("RolledBack", "Aborted")
STEP = 120.0
"""Seconds; a site that is heard is heard that often at least."""


class Fleet(People):
    """The operator among people and sites, and what always holds."""

    def __init__(self) -> None:
        super().__init__()
        self.failed: dict[str, int] = {}
        self.offers: Offers = {}
        self.soaks = timely.Soaks()
        self.pace = 0
        """Rounds of the everyday after each step: things happen at once, or one by one."""

    @initialize(
        policy=st.sampled_from(POLICIES),
        labels=st.lists(LABELS, min_size=2, max_size=len(SITES)),
        windowed=st.booleans(),
        served=st.sampled_from((0, 0, 1, 2)),
        pace=st.sampled_from((0, 0, 1, 1, 2)),
        draw=st.data(),
    )
    def begin(
        self,
        policy: dict[str, Any],
        labels: list[dict[str, str]],
        windowed: bool,
        served: int,
        pace: int,
        draw: st.DataObject,
    ) -> None:
        """A fleet of two to eight sites, some of which, and some kinds of which, do not take some bundles.

        Random steps alone seldom bring a second revision to serve: some histories begin with one or two that do.
        """
        self.windowed, self.pace = windowed, pace
        self.hub = Hub(model=model_raw(1, rollout=policy), needs=NEEDS)
        self.kinds = {soc: draw.draw(st.sets(st.sampled_from(BUNDLES), max_size=2)) for soc in "xy"}
        for name, own in zip(SITES, labels, strict=False):
            self.join(name, own, draw)
        for number in range(1, served + 1):
            self.apply(number)
            self.look(WHOLE, 0)
            self.hub.verb(f"{MODEL}-{number}", finish=True)
            self.several(6)

    # -- the operator ---------------------------------------------------------------------------------

    @rule(writes=st.sampled_from((WHOLE, WHOLE, WHOLE, 0, 1, 2, 3, 4)), seed=st.integers(0, 3))
    def look(self, writes: int, seed: int) -> None:
        """One pass, perhaps killed half-way; a killed operator starts again."""
        before: Hub = pickle.loads(pickle.dumps(self.hub))  # five times as quick as deepcopy
        decision = self.hub.look(writes)
        if seed == 1:
            order_does_not_matter(before, decision)
        if seed == 2:
            clocks_do_not_matter(before, decision)
            the_clock_holds_nobody(before, decision)
        if writes < WHOLE:
            self.hub.started = self.hub.now
        check(before, decision)
        check_kinds(before, decision, self.offers)
        check_catching_up(before, decision)
        timely.check_windows(before, decision)
        timely.looks_in_time(before, decision, facts.not_healthy(before))
        note_offers(self.hub, self.offers)
        self.soaks.passed(before, self.hub)
        timely.soaks_stand_on_health(self.hub)
        if writes == WHOLE:
            self._nothing_banned_is_ordered()
            nobody_stays(self.hub)
            if not decision.create_rollouts:  # what bans may have been made just now: the next pass sees it
                timely.nobody_waits_to_leave(self.hub, facts.leaving(self.hub))

    @rule(writes=st.sampled_from((WHOLE, WHOLE, 0, 1)))
    def set_aside(self, writes: int) -> None:
        """The pass over the fleet, perhaps killed half-way: never more than the share, whoever was deleted since."""
        decision = self.hub.set_aside(QUARANTINE, writes)
        held = [name for name, raw in self.hub.sites.items() if "quarantine" in raw["status"]]
        if writes >= len(decision.releases):
            room = quarantine.capacity(QUARANTINE, len(self.hub.sites))
            assert len(held) <= room, f"{held} are set aside, {room} may be"

    @rule(seconds=st.sampled_from((1, 30, 61, 400, 700, 3600, 700000)))
    def wait(self, seconds: int) -> None:
        """Time passes, and nobody is heard."""
        self.hub.tick(seconds)

    def pass_time(self, seconds: float, silent: frozenset[str]) -> None:
        """Time passes in which sites work and all but some are heard."""
        while seconds > 0:
            self.hub.tick(min(STEP, seconds))
            seconds -= STEP
            for name in sorted(self.sims):
                self.sims[name].work()
                if name not in silent:
                    self.sims[name].sync()

    @precondition(lambda self: timely.soaking(self.hub) is not None)
    @rule(silent=SOME, early=st.sampled_from((0, 0, 1)), paused=st.sampled_from((False, False, True)))
    def soak(self, silent: frozenset[str], early: int, paused: bool) -> None:
        """A soak goes by, in which some sites are not heard, and in which the model is paused perhaps."""
        left = (timely.soaking(self.hub) or timedelta(0)).total_seconds()
        if paused:
            self.pause(paused=True)
            self.look(WHOLE, 0)
            self.pass_time(left, frozenset())
            self.pause(paused=False)
            self.look(WHOLE, 0)
        else:
            self.pass_time(left - early, silent)
        self.look(WHOLE, 0)

    @rule(names=SOME, late=SOME)
    def lose_and_look(self, names: frozenset[str], late: frozenset[str]) -> None:
        """Orders are deleted and written anew; then reports about the old ones arrive."""
        self.lose_orders(names)
        self.look(WHOLE, 0)
        self.alone(late, "tell")
        self.look(WHOLE, 0)

    @rule(replicas=st.integers(1, 3))
    def edit_unheard(self, replicas: int) -> None:
        """Orders change in place, and what was said of the earlier ones stands there for a while."""
        self.scale(replicas)
        self.look(WHOLE, 0)
        self.look(WHOLE, 0)

    @precondition(lambda self: timely.next_opening(self.hub) is not None)
    @rule(early=st.sampled_from((-1, 0, 1, 300, 899, 900, 901)), silent=SOME)
    def until_a_window(self, early: int, silent: frozenset[str]) -> None:
        """It is the time at which a window opens, or so long before it."""
        left = timely.next_opening(self.hub) or 0.0
        self.pass_time(max(0.0, left - early), silent)
        self.look(WHOLE, 0)

    @rule(rounds=st.integers(1, 8))
    def several(self, rounds: int) -> None:
        """The everyday: passes, beats and work in turn."""
        for name in self.hub.sites:
            self.hub.deliver(name)
        for _ in range(rounds):
            self.look(WHOLE, self.hub.now.second // 5 % 6)
            self.hub.tick(5)
            for site in self.sims.values():
                site.sync()
                site.work()
                site.sync()

    @rule(number=st.integers(1, 5), rounds=st.integers(1, 6))
    def roll(self, number: int, rounds: int) -> None:
        """Another bundle, and some time for it."""
        self.apply(number)
        self.several(rounds)

    def _nothing_banned_is_ordered(self) -> None:
        banned = {
            (raw["spec"]["revision"], attempt)
            for raw in self.hub.rollouts.values()
            if raw["status"].get("outcome") in BANNED
            for attempt in range(1, raw["spec"]["attempt"] + 1)
        }
        for name, raw in self.hub.orders.items():
            spec = raw["spec"]
            if spec["state"] == "Run":
                assert (spec["revision"], spec["attempt"]) not in banned, (
                    f"I4: {name} is ordered to run a banned revision"
                )

    # -- what always holds --------------------------------------------------------------------------------

    @invariant()
    def life_goes_on(self) -> None:
        """The everyday between two things that happen."""
        if self.pace:
            self.several(self.pace)

    def forget(self, name: str) -> None:
        """What a rollout said goes with it."""
        super().forget(name)
        self.failed = {what: count for what, count in self.failed.items() if what.partition("/")[0] != name}

    @invariant()
    def failures_are_never_forgotten(self) -> None:
        """I8."""
        for name, raw in self.hub.rollouts.items():
            said = raw["status"]
            counted = {f"{name}/{wave['name']}": wave.get("failed", 0) for wave in said.get("waves", ())}
            counted[name] = said.get("counts", {}).get("failed", 0)
            for what, failed in counted.items():
                assert failed >= self.failed.get(what, 0), f"I8: {what} forgot a failure"
            self.failed |= counted

    def teardown(self) -> None:
        """Whatever happened, it comes to rest and says so."""
        if self.sims:
            comes_to_rest(self.hub, self.sims)


@pytest.mark.timeout(400)
def test_no_history_breaks_a_promise() -> None:
    """The same histories each time, within seconds."""
    run_state_machine_as_test(  # type: ignore[no-untyped-call]
        Fleet,
        settings=settings(
            max_examples=int(os.environ.get("HISTORIES", "40")),
            stateful_step_count=30,
            derandomize=True,
            phases=[Phase.explicit, Phase.generate],  # a history is short enough as it is found
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


@pytest.mark.soak
@pytest.mark.timeout(0)
def test_no_long_history_breaks_a_promise() -> None:
    """Other histories each time: HISTORIES of them (default 5000), longer ones."""
    run_state_machine_as_test(  # type: ignore[no-untyped-call]
        Fleet,
        settings=settings(
            max_examples=int(os.environ.get("HISTORIES", "5000")),
            stateful_step_count=80,
            deadline=None,
            phases=list(Phase) if os.environ.get("SHRINK", "1") == "1" else [Phase.generate],
            suppress_health_check=list(HealthCheck),
            print_blob=True,
        ),
    )
