"""How many failures a wave may have, and what a breach stops."""

from typing import Any

import pytest
from support.fleet import World, served
from support.hubs import bundle

RING = {"siteSelector": {"matchLabels": {"ring": "0"}}}


def wave(of: World, number: int, name: str) -> dict[str, Any]:
    """Status of a wave of a rollout."""
    return next(item for item in of.hub.rollout(number)["status"]["waves"] if item["name"] == name)


@pytest.mark.parametrize(
    ("given", "failing", "outcome"),
    [
        ({"limit": 100}, "a", "RolledBack"),
        ({"limit": 100, "maxFailures": "5%"}, "abc", "RolledBack"),
        ({"limit": 100, "maxFailures": "40%"}, "a", "Complete"),
        ({"limit": 100, "maxFailures": 1}, "a", "Complete"),
        ({"limit": 2, "maxFailures": "50%"}, "a", "Complete"),
    ],
)
def test_a_limit_above_the_sites_there_are_allows_no_more_failures(
    given: dict[str, Any], failing: str, outcome: str
) -> None:
    fleet = served("abc")
    fleet.fail(2, *failing)
    fleet.hub.edit(bundle=bundle(2), rollout={"waves": [{"name": "all", "maxConcurrency": 1, **given}]})
    fleet.go(30)
    assert fleet.hub.rollout(2)["status"]["outcome"] == outcome


def test_a_share_of_all_sites_allows_no_more_failures_than_the_selected_ones_do() -> None:
    sites = {f"s{number:02}": {"ring": "0"} if number < 3 else {} for number in range(60)}
    fleet = served(sites)
    fleet.fail(2, "s00")
    first = {"name": "first", "limit": "100%", "approval": False, **RING}
    fleet.hub.edit(bundle=bundle(2), rollout={"waves": [first]})
    fleet.go(12)
    assert fleet.hub.rollout(2)["status"]["outcome"] == "RolledBack"


def test_cordoning_sites_of_a_completed_wave_takes_nobody_back() -> None:
    fleet = served("abcde")
    fleet.fail(2, "a")
    first = {"name": "first", "limit": 4, "maxFailures": "25%", "maxConcurrency": 4}
    fleet.hub.edit(bundle=bundle(2), rollout={"waves": [first, {"name": "later", "approval": True}]})
    fleet.go(12)
    assert wave(fleet, 2, "first")["completedAt"]
    for name in "bcd":
        fleet.hub.sites[name]["spec"]["cordoned"] = True
    fleet.go(4)
    assert fleet.hub.condition("Reconciling") == ("True", "WaitingApproval")


def test_with_the_strategy_pause_a_breached_wave_is_not_complete_and_the_next_does_not_begin() -> None:
    fleet = served({"a": {"ring": "0"}, "b": {"ring": "0"}, "c": {"ring": "0"}, "d": {}})
    fleet.fail(2, "a")
    waves = [{"name": "first", **RING}, {"name": "rest"}]
    fleet.hub.edit(bundle=bundle(2), rollout={"waves": waves, "failureStrategy": "Pause"})
    fleet.go(12)
    assert fleet.hub.condition("Stalled") == ("True", "MaxFailuresExceeded")
    assert [item["name"] for item in fleet.hub.rollout(2)["status"]["waves"]] == ["first"]
    assert "completedAt" not in wave(fleet, 2, "first")
    waves = [{"name": "first", "maxFailures": 1, **RING}, {"name": "rest"}]
    fleet.hub.edit(rollout={"waves": waves, "failureStrategy": "Pause"})
    fleet.go(12)
    assert fleet.hub.rollout(2)["status"]["outcome"] == "Complete"
