"""The operator killed before and after each write of each pass: the end is the same."""

from collections.abc import Callable

import pytest
from support.fleet import World, served, world
from support.hubs import bundle

WAVES = {
    "waves": [
        {"name": "canary", "siteSelector": {"matchLabels": {"ring": "0"}}},
        {"name": "all", "maxConcurrency": 1},
    ]
}
RINGS = {"a": {"ring": "0"}, "b": {}, "c": {}}


def roll_out() -> World:
    """A first revision is rolled out."""
    return world(RINGS, rollout=WAVES)


def fail() -> World:
    """A revision fails in the second wave and is taken back."""
    fleet = served(RINGS, rollout=WAVES)
    fleet.fail(2, "b")
    fleet.hub.edit(bundle=bundle(2))
    return fleet


def supersede() -> World:
    """A revision is superseded in flight."""
    fleet = served(RINGS, rollout=WAVES)
    fleet.hub.edit(bundle=bundle(2))
    fleet.go(5)
    fleet.hub.edit(bundle=bundle(3))
    return fleet


def abort() -> World:
    """A completed rollout is undone."""
    fleet = served(RINGS, rollout=WAVES)
    fleet.hub.edit(bundle=bundle(2))
    fleet.go(12)
    fleet.hub.verb("digits-2", desired="Aborted")
    return fleet


def retry() -> World:
    """A failed revision gets another attempt."""
    fleet = fail()
    fleet.go(12)
    fleet.sites["b"].bad.clear()
    fleet.hub.annotate(retry="again")
    return fleet


def delete() -> World:
    """The model is deleted."""
    fleet = served(RINGS, rollout=WAVES)
    (fleet.hub.model or {})["metadata"]["deletionTimestamp"] = "2026-01-31T12:00:00Z"
    return fleet


def end(fleet: World) -> object:
    """What matters of the end: what serves, is ordered, and is said; not uids, versions and times."""
    rollouts = {
        name: (
            raw["spec"]["revision"],
            raw["spec"]["attempt"],
            raw["status"].get("outcome"),
            raw["status"]["counts"],
        )
        for name, raw in fleet.hub.rollouts.items()
    }
    orders = {
        name: {key: value for key, value in raw["spec"].items() if key != "offeredAt"}
        for name, raw in fleet.hub.orders.items()
    }
    reason = fleet.hub.condition("Ready") if fleet.hub.model else None
    return (rollouts, orders, fleet.active(), reason)


@pytest.mark.parametrize("story", [roll_out, fail, supersede, abort, retry, delete])
@pytest.mark.parametrize("writes", [0, 1, 2, 3])
def test_killed_after_so_many_writes_of_every_other_pass(story: Callable[[], World], writes: int) -> None:
    whole = story()
    whole.go(20)
    killed = story()
    for _ in range(20):
        killed.hub.look(writes)
        killed.go(1)
    assert end(killed) == end(whole)


@pytest.mark.parametrize("story", [roll_out, fail, supersede, abort, retry])
def test_killed_after_the_first_write_of_every_pass_it_gets_there_all_the_same(
    story: Callable[[], World],
) -> None:
    whole = story()
    whole.go(20)
    killed = story()
    for _ in range(150):
        killed.hub.look(2)
        killed.hub.tick(1)
        for site in killed.sites.values():
            site.sync()
            site.work()
            site.sync()
    killed.go(3)
    assert end(killed) == end(whole)
