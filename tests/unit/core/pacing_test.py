"""How quickly sites are offered a revision, and when the rate lets the next ones in."""

from datetime import timedelta
from typing import Any

import pytest
from edgefleet.core import pacing, units
from edgefleet.core.specs import Rate
from support.fleet import Site, World, served
from support.hubs import START, bundle

NAMES = [f"s{number:02}" for number in range(40)]


def rated(rate: dict[str, Any] | None, names: list[str] = NAMES, **wave: Any) -> World:
    """Bundle 1 serves everywhere; bundle 2 is applied with this rate and its rollout has begun."""
    fleet = served({name: {} for name in names})
    policy: dict[str, Any] = {"waves": [{"name": "all", "maxConcurrency": 1000, **wave}]}
    fleet.hub.edit(bundle=bundle(2), rollout=policy | ({"rate": rate} if rate else {}))
    fleet.hub.look()
    return fleet


def offers(of: World, seconds: int = 1) -> list[int]:
    """New offers in each pass, one a second, while sites neither answer nor beat."""
    found = []
    for _ in range(seconds):
        found.append(sum(write.reason == "Admitted" for write in of.hub.look().orders))
        of.hub.tick(1)
    return found


def work(of: World, *names: str) -> None:
    """Let sites finish what they were told."""
    for name in names:
        of.sites[name].sync()
        of.sites[name].work()
        of.sites[name].work()
        of.sites[name].sync()


@pytest.mark.parametrize(
    ("healthy", "per_minute"),
    [(0, 5), (9, 5), (10, 10), (19, 10), (20, 20), (35, 40), (70, 640), (80, 1000), (10**9, 1000)],
)
def test_the_rate_doubles_with_every_ten_healthy_sites_up_to_its_most(healthy: int, per_minute: int) -> None:
    assert pacing.per_minute(Rate(per_minute=5), healthy) == per_minute


@pytest.mark.parametrize("healthy", [0, 10**9])
def test_a_factor_of_one_lets_the_rate_stay(healthy: int) -> None:
    assert pacing.per_minute(Rate(per_minute=7, factor=1), healthy) == 7


def test_without_a_rate_only_the_wave_holds_offers_back() -> None:
    assert offers(rated(None)) == [40]


def test_no_more_sites_are_offered_in_a_minute_than_the_rate_allows() -> None:
    fleet = rated({"perMinute": 3})
    assert offers(fleet, 62) == [3, *[0] * 60, 3]


def test_the_hold_names_the_rate_and_when_it_goes_on_and_the_pass_comes_back_then() -> None:
    fleet = rated({"perMinute": 3})
    fleet.hub.look()
    fleet.hub.tick(40)
    decision = fleet.hub.look()
    assert fleet.hub.condition("Reconciling") == ("True", "WaveRunning")
    at = units.timestamp(fleet.hub.now + timedelta(seconds=21))
    assert f"RateLimited to 3 offers a minute with 0 sites healthy, the next at {at}" in fleet.hub.message()
    assert decision.requeue_after == pytest.approx(21)
    fleet.hub.tick(decision.requeue_after)
    assert offers(fleet) == [3]


def test_a_rate_that_keeps_nobody_back_is_not_spoken_of() -> None:
    fleet = rated({"perMinute": 40})
    assert offers(fleet) == [40]
    assert "RateLimited" not in fleet.hub.message()


def test_the_rate_grows_with_the_sites_on_which_the_revision_serves() -> None:
    fleet = rated({"perMinute": 4, "every": 4})
    assert offers(fleet) == [4]
    work(fleet, *NAMES[:4])
    assert offers(fleet) == [4], "8 a minute now, of which 4 are used"
    work(fleet, *NAMES[4:8])
    assert offers(fleet) == [8]


def test_sites_that_failed_use_up_the_rate_too() -> None:
    fleet = rated({"perMinute": 2}, maxFailures=10)
    fleet.fail(2, "s00", "s01")
    assert offers(fleet) == [2]
    work(fleet, "s00", "s01")
    assert offers(fleet, 5) == [0, 0, 0, 0, 0]
    assert fleet.ordered()["s00"] == fleet.hub.revision(1)


@pytest.mark.parametrize(("concurrency", "rate", "first"), [(2, 5, 2), (5, 2, 2)])
def test_rate_and_concurrency_hold_together(concurrency: int, rate: int, first: int) -> None:
    fleet = rated({"perMinute": rate}, maxConcurrency=concurrency)
    assert offers(fleet) == [first]


def test_finish_lifts_the_rate_and_direct_does_not() -> None:
    fleet = rated({"perMinute": 3})
    assert offers(fleet) == [3]
    fleet.hub.verb("digits-2", direct=True)
    assert offers(fleet) == [0]
    fleet.hub.verb("digits-2", finish=True)
    assert offers(fleet) == [37]


def test_each_rollout_has_a_rate_of_its_own_that_an_operator_who_restarts_goes_on_with() -> None:
    fleet = rated({"perMinute": 3})
    assert offers(fleet) == [3]
    fleet.hub.started = fleet.hub.now
    assert offers(fleet) == [0]
    fleet.hub.edit(bundle=bundle(3))
    assert sum(offers(fleet, 2)) == 3


def test_a_clock_that_was_set_back_makes_no_offer_unhappen() -> None:
    fleet = rated({"perMinute": 3})
    assert offers(fleet) == [3]
    fleet.hub.tick(-3600)
    for name in NAMES:
        fleet.sites[name].sync()
    assert offers(fleet, 3) == [0, 0, 0]


def test_the_room_is_counted_over_any_window() -> None:
    times = [units.timestamp(START + timedelta(seconds=second)) for second in (0, 10, 10, 50)]
    pace = pacing.pace(5, 60, times, START + timedelta(seconds=55))
    assert (pace.room, pace.next_at(0)) == (1, None)
    assert pace.next_at(1) == START + timedelta(seconds=61)
    assert pace.next_at(3) == START + timedelta(seconds=71), "a pass that made more than it might"
    assert pacing.pace(5, 60, times, START + timedelta(seconds=70)).room == 2
    assert pacing.pace(5, 60, times, START + timedelta(seconds=72)).room == 4


def join(of: World, count: int) -> None:
    """So many sites join at once."""
    for number in range(count):
        name = f"n{number:03}"
        of.hub.join(name)
        of.sites[name] = Site(name, of.hub, steps=1)


def caught(of: World, seconds: int) -> list[int]:
    """New catch-ups in each pass, one a second, of sites that are quick."""
    found = []
    for _ in range(seconds):
        found.append(sum(write.reason == "CatchUp" for write in of.hub.look().orders))
        of.hub.tick(1)
        for site in of.sites.values():
            site.sync()
            site.work()
            site.sync()
    return found


def test_a_fleet_that_comes_back_at_once_catches_up_fifty_sites_in_ten_seconds_however_quick_they_are() -> (
    None
):
    fleet = served("a")
    join(fleet, 120)
    decision = fleet.hub.decide()
    assert len(decision.orders) == 50
    assert caught(fleet, 25) == [50, *[0] * 10, 50, *[0] * 10, 20, 0, 0]


def test_the_pass_comes_back_when_more_may_catch_up() -> None:
    fleet = served("a")
    join(fleet, 60)
    assert caught(fleet, 1) == [50]
    assert fleet.hub.look().requeue_after == pytest.approx(10)


def test_catching_up_keeps_the_rate_of_the_rollout_too() -> None:
    fleet = served("a", rollout={"rate": {"perMinute": 2, "factor": 1}})
    join(fleet, 5)
    fleet.hub.tick(61)
    fleet.sites["a"].sync()
    for name in ("n000", "n001", "n002", "n003", "n004"):
        fleet.sites[name].sync()
    assert caught(fleet, 63) == [2, *[0] * 60, 2, 0]
