"""`canary.surge`: what a site does where the new revision does not fit beside the one that serves."""

from collections.abc import Callable

import pytest
from edgefleet.core.local_swap import PATIENCE, ROOM_GRACE
from edgefleet.core.order import Mode, State, Surge, SwapOutcome
from edgefleet.core.window import NO_WINDOWS, SHUT, Windows
from edgepod.contract import SelfTestReport
from support.site import Behaviour, Site, order

BAD = SelfTestReport(passed=False, reason="GoldenDisagrees")


@pytest.fixture
def site() -> Site:
    """One that serves `aa` and has no memory for a second pod."""
    made = Site()
    made.give(order("aa", 1), Behaviour())
    made.run()
    made.room = 1
    made.stages.clear()
    made.log.clear()
    return made


def stage(site: Site) -> str:
    return site.stages[-1]


def swapped(revision: str, version: int, **more: object) -> object:
    return order(revision, version, surge=Surge.PREFERRED, **more)


def at_rest(site: Site) -> Callable[[], bool]:
    return lambda: stage(site) == "Serving/Serving"


def test_required_waits_and_leaves_what_serves_alone(site: Site) -> None:
    site.give(order("bb", 2), Behaviour(version=2))
    for _ in range(300):
        site.step()
        site.advance(1.0)
        assert len(site.ready("aa")) == 1
    assert (site.selected, stage(site)) == ("aa", "Blocked/InsufficientMemory")
    assert site.record.swap is None


def test_preferred_swaps_tests_itself_first_and_says_what_it_cost(site: Site) -> None:
    site.give(swapped("bb", 2), Behaviour(version=2))
    site.run()
    assert site.selected == "bb"
    order_of = [
        site.log.index(each) for each in ("aa to 0 pods", "start bb", "bb passed", "callers go to bb")
    ]
    assert order_of == sorted(order_of)
    assert site.reported is not None
    told = site.reported.swap
    assert told is not None
    assert (told.revision, told.outcome, told.given_up) == ("bb", SwapOutcome.SWAPPED, "")
    assert told.gap_seconds is not None
    assert abs(told.gap_seconds - site.unserved) < 5.0
    assert not any(each.startswith("Canary") for each in site.stages)


def test_where_both_fit_preferred_is_a_canary_without_a_gap(site: Site) -> None:
    site.room = None
    site.give(swapped("bb", 2), Behaviour(version=2))
    site.run()
    assert (site.selected, site.unserved) == ("bb", 0.0)
    assert "Canary/Step" in site.stages
    assert site.record.swap is None


def test_memory_that_comes_free_within_the_grace_ends_nobody(site: Site) -> None:
    site.give(swapped("bb", 2), Behaviour(version=2))
    site.run(until=lambda: stage(site) == "Blocked/InsufficientMemory")
    site.advance(ROOM_GRACE - 3)
    site.room = 2
    site.run()
    assert (site.selected, site.unserved, site.record.swap) == ("bb", 0.0, None)


@pytest.mark.parametrize(
    "behaviour",
    [
        Behaviour(version=2, selftest=BAD),
        Behaviour(version=2, start="crash"),
        Behaviour(version=2, start="oom"),
        Behaviour(version=2, start="never"),
    ],
    ids=["self-test", "crash", "memory", "never ready"],
)
def test_a_newcomer_that_fails_gives_the_place_back(site: Site, behaviour: Behaviour) -> None:
    site.give(swapped("bb", 2), behaviour)
    site.run(seconds=3000)
    assert (site.selected, stage(site).split("/")[0]) == ("aa", "RolledBack")
    assert len(site.ready("aa")) == 1
    assert site.record.refusal_of("bb", 1) is not None
    told = site.record.swap
    assert told is not None
    assert told.outcome is SwapOutcome.WENT_BACK
    assert told.gap_seconds is not None
    assert told.gap_seconds > 0


def test_surroundings_that_keep_it_from_the_place_end_the_gap_and_blame_nobody(site: Site) -> None:
    site.give(swapped("bb", 2), Behaviour(version=2, start="noimage"))
    site.run(until=lambda: not site.ready("aa"))
    began = site.now
    site.run(until=lambda: bool(site.ready("aa")), seconds=600)
    assert site.now - began < PATIENCE + 60
    for _ in range(600):
        site.step()
        site.advance(1.0)
        assert site.ready("aa"), "one gap an attempt is enough"
    assert site.record.refused == ()
    assert site.record.swap is not None
    assert "ImagePullFailed" in site.record.swap.given_up
    assert stage(site) == "Blocked/InsufficientMemory"


def test_another_attempt_may_swap_again(site: Site) -> None:
    site.give(swapped("bb", 2), Behaviour(version=2, start="noimage"))
    site.run(until=lambda: site.record.swap is not None and site.record.swap.gap_seconds is not None)
    site.behaviours["bb"].start = "ready"
    site.give(swapped("bb", 2, attempt=2))
    site.run()
    assert site.selected == "bb"


@pytest.mark.parametrize("state", [State.RUN, State.KEEP])
def test_an_order_that_is_taken_back_meanwhile_brings_the_old_one_back(site: Site, state: State) -> None:
    site.give(swapped("bb", 2), Behaviour(version=2, start="never"))
    site.run(until=lambda: not site.ready("aa"))
    site.give(order("aa", 1, state=state))
    site.run(until=lambda: bool(site.ready("aa")), seconds=120)
    site.run(seconds=120)
    assert site.selected == "aa"


def test_a_person_who_wants_no_gap_any_more_ends_it(site: Site) -> None:
    site.give(swapped("bb", 2), Behaviour(version=2, start="never"))
    site.run(until=lambda: not site.ready("aa"))
    site.give(order("bb", 2))
    site.run(until=lambda: bool(site.ready("aa")), seconds=120)


@pytest.mark.parametrize("steps", range(14))
def test_an_agent_that_dies_anywhere_in_a_swap_brings_it_to_its_end(site: Site, steps: int) -> None:
    site.give(swapped("bb", 2), Behaviour(version=2))
    site.run(until=lambda: site.record.swap is not None)
    for _ in range(steps):
        site.step()
        site.advance(0.7)
    site.crash()
    site.run()
    assert site.selected == "bb"
    assert site.record.swap is not None
    assert site.record.swap.gap_seconds is not None


def test_going_back_swaps_too_and_needs_no_second_self_test(site: Site) -> None:
    site.give(swapped("bb", 2), Behaviour(version=2))
    site.run()
    site.log.clear()
    site.give(swapped("aa", 1, mode=Mode.DIRECT, replaces=order("bb", 2).bundle.split("@")[1], attempt=1))
    site.run()
    assert site.selected == "aa"
    assert "run the self-test" not in site.log


def test_a_swap_waits_for_the_update_window_and_going_back_does_not(site: Site) -> None:
    site.give(swapped("bb", 2), Behaviour(version=2))
    site.run(until=lambda: stage(site) == "Blocked/InsufficientMemory")
    site.windows = Windows(update=SHUT)
    for _ in range(100):
        site.step()
        site.advance(1.0)
        assert site.ready("aa")
    site.windows = NO_WINDOWS
    site.run()
    assert site.selected == "bb"
    site.windows = Windows(update=SHUT)
    site.give(swapped("aa", 1, mode=Mode.DIRECT, replaces=order("bb", 2).bundle.split("@")[1]))
    site.run()
    assert site.selected == "aa"


def test_a_window_that_closes_in_the_midst_of_a_swap_strands_nobody(site: Site) -> None:
    site.give(swapped("bb", 2), Behaviour(version=2))
    site.run(until=lambda: not site.ready("aa"))
    site.windows = Windows(update=SHUT)
    site.run()
    assert site.selected == "bb"


def test_a_canary_that_once_ran_is_never_swapped_in_unjudged(site: Site) -> None:
    site.room = 2
    site.give(swapped("bb", 2), Behaviour(version=2))
    site.run(until=lambda: stage(site) == "Canary/Step")
    site.room = 1
    site.delete_pod("bb")
    for _ in range(200):
        site.step()
        site.advance(1.0)
        assert site.ready("aa")
    assert site.selected == "aa"


def just_promoted_to_one_that_fades() -> Site:
    """A site on `bb`, which stops working now that it is promoted; `aa` still runs beside it."""
    site = Site()
    site.give(order("aa", 1, mode=Mode.DIRECT), Behaviour(version=1))
    site.run()
    site.give(order("bb", 2, mode=Mode.DIRECT), Behaviour(version=2, fades=True))
    site.run(until=lambda: site.selected == "bb")
    return site


def test_what_passed_once_and_is_down_keeps_no_place_from_a_newcomer_while_nothing_serves() -> None:
    site = just_promoted_to_one_that_fades()
    site.give(order("cc", 3, mode=Mode.DIRECT), Behaviour(version=3))
    site.run(
        until=lambda: site.record.served_as("cc") is not None
    )  # another order comes just before callers go there
    site.behaviours["cc"].start = "crash"
    site.kill_pod("cc")
    site.room = len(site.pods)
    assert site.room == 3
    site.give(order("dd", 4, mode=Mode.DIRECT), Behaviour(version=4))
    site.run(until=at_rest(site))
    assert site.selected == "dd"
    assert "Deployment team-digits-cc is not needed any more" in site.log


def test_what_stopped_serving_while_another_is_awaited_is_left_for_the_one_that_still_works() -> None:
    site = just_promoted_to_one_that_fades()
    site.room = len(site.pods)
    site.give(order("cc", 3, mode=Mode.DIRECT), Behaviour(version=3))
    site.run(until=lambda: site.selected == "aa")
    assert [(item.revision, item.reason) for item in site.record.refused] == [
        ("bb", "NotReadyAfterPromotion")
    ]
    site.run(until=at_rest(site))
    assert site.selected == "cc"
