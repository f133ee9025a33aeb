"""Orders that end something at a site which is never heard again: kept for long, and not for ever."""

import pytest
from support.fleet import World, served

DAY = 86400.0


def withdrawn(policy: str) -> World:
    """The model was deleted while site b was cut off; a carried it out."""
    world = served("ab", deletionPolicy=policy)
    world.sites["b"].linked = False
    assert world.hub.model is not None
    world.hub.model["metadata"]["deletionTimestamp"] = "2026-01-31T12:00:00Z"
    world.go(4)
    assert world.hub.model is None
    assert list(world.hub.orders) == ["b"]
    return world


@pytest.mark.parametrize("policy", ["Remove", "Keep"])
def test_an_order_waits_ninety_days_for_a_site_that_is_away(policy: str) -> None:
    world = withdrawn(policy)
    world.hub.tick(89 * DAY)
    world.go(2)
    assert world.hub.orders["b"]["spec"]["state"] == policy
    world.hub.tick(2 * DAY)
    world.go(2)
    assert world.hub.orders == {}


def test_a_site_that_comes_back_in_time_still_removes_the_model() -> None:
    world = withdrawn("Remove")
    world.hub.tick(89 * DAY)
    world.sites["b"].linked = True
    world.go(4)
    assert (world.hub.orders, world.active()["b"]) == ({}, "")


def test_an_order_of_a_deleted_site_goes_too() -> None:
    world = withdrawn("Remove")
    del world.hub.sites["b"]
    world.go(2)
    assert list(world.hub.orders) == ["b"]
    world.hub.tick(91 * DAY)
    world.go(2)
    assert world.hub.orders == {}


def test_a_site_that_is_heard_but_does_not_answer_is_waited_for() -> None:
    world = withdrawn("Remove")
    for _ in range(4):
        world.hub.tick(30 * DAY)
        world.hub.beat("b")
        world.hub.look()
    assert list(world.hub.orders) == ["b"]
