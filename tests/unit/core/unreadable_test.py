"""What still happens while a spec cannot be read, and after somebody deleted an EdgeRollout."""

from datetime import timedelta

import pytest
from support.fleet import World, served, world
from support.hubs import bundle

WRONG = {"replicas": "many"}


def on_trial(bad: str = "") -> World:
    """Bundle 1 serves at four sites, and bundle 2 is at work on two of them."""
    fleet = served("abcd")
    if bad:
        fleet.fail(2, *bad)
    fleet.hub.edit(bundle=bundle(2), rollout={"waves": [{"name": "some", "limit": 2}]})
    for site in fleet.sites.values():
        site.steps = 6
    fleet.go(3)
    assert fleet.ordered()["a"] == fleet.hub.revision(2)
    return fleet


def test_an_abort_takes_orders_back_though_the_spec_cannot_be_read() -> None:
    fleet = on_trial()
    good = {name: raw["spec"]["serving"] for name, raw in fleet.hub.orders.items()}
    fleet.hub.edit(serving=WRONG)
    fleet.sites["a"].linked = False
    fleet.hub.verb("digits-2", desired="Aborted")
    fleet.go(4)
    assert fleet.hub.condition("Stalled") == ("True", "InvalidSpec")
    assert fleet.hub.rollout(2)["status"]["outcome"] == "Aborted"
    assert set(fleet.ordered().values()) == {fleet.hub.revision(1)}, "also of who is away"
    assert fleet.hub.orders["a"]["spec"]["replaces"] == bundle(2).rpartition("@")[2]
    assert fleet.hub.orders["a"]["spec"]["mode"] == "Direct"
    assert {name: raw["spec"]["serving"] for name, raw in fleet.hub.orders.items()} == good
    fleet.sites["a"].linked = True
    fleet.hub.edit(serving={"replicas": 1})
    fleet.go(8)
    assert set(fleet.active().values()) == {fleet.hub.revision(1)}


def test_who_refuses_goes_back_though_the_spec_cannot_be_read_and_nobody_is_offered_anything() -> None:
    fleet = on_trial(bad="a")
    fleet.hub.edit(serving=WRONG)
    fleet.go(12)
    assert fleet.ordered()["a"] == fleet.hub.revision(1)
    assert fleet.ordered()["b"] == fleet.hub.revision(2), "it goes on with what it was told"
    assert {fleet.ordered()[name] for name in "cd"} == {fleet.hub.revision(1)}
    fleet.hub.edit(serving={"replicas": 1})
    fleet.go(4)
    assert fleet.hub.rollout(2)["status"]["outcome"] == "RolledBack", "the failure is counted then"


def test_a_spec_that_cannot_be_read_comes_to_rest() -> None:
    fleet = on_trial(bad="a")
    fleet.hub.edit(serving=WRONG)
    fleet.go(12)
    assert fleet.hub.decide().orders == ()
    assert fleet.hub.decide().patch_rollouts == ()


def test_a_deleted_rollout_that_was_under_way_comes_back_as_aborted() -> None:
    fleet = on_trial()
    del fleet.hub.rollouts["digits-2"]
    fleet.go(10)
    assert fleet.hub.rollout(3)["spec"]["desired"] == "Aborted"
    assert fleet.hub.rollout(3)["spec"]["attempt"] == 2
    assert fleet.hub.condition("Stalled") == ("True", "Aborted")
    assert set(fleet.active().values()) == {fleet.hub.revision(1)}
    assert len(fleet.hub.rollouts) == 2, "once"
    fleet.hub.annotate("again")
    fleet.go(40)
    assert fleet.hub.rollout(4)["status"]["outcome"] == "Complete", "a person says so"


def test_a_deleted_rollout_that_had_failed_lets_nothing_out_again() -> None:
    fleet = on_trial(bad="ab")
    fleet.go(14)
    assert fleet.hub.condition("Stalled") == ("True", "RolledBack")
    del fleet.hub.rollouts["digits-2"]
    written = fleet.go(12)
    assert written == []
    assert fleet.hub.rollout(3)["spec"]["desired"] == "Aborted"
    assert fleet.hub.condition("Stalled") == ("True", "Aborted")


def test_a_deleted_rollout_that_had_completed_is_made_again_and_takes_nobody_back() -> None:
    fleet = served("ab")
    revision = fleet.hub.revision(1)
    del fleet.hub.rollouts["digits-1"]
    fleet.go(12)
    assert fleet.hub.condition("Ready") == ("True", "Complete")
    assert fleet.hub.revision(2) == revision
    assert set(fleet.active().values()) == {revision}


def test_the_first_rollout_deleted_leaves_sites_as_they_are() -> None:
    fleet = world("ab", rollout={"waves": [{"name": "some", "limit": 1, "soak": "1h"}]})
    fleet.go(6)
    del fleet.hub.rollouts["digits-1"]
    fleet.go(6)
    assert fleet.hub.condition("Stalled") == ("True", "Aborted")
    assert fleet.active()["a"] != ""
    assert fleet.hub.orders["a"]["spec"]["state"] == "Keep"


def test_another_bundle_after_a_deletion_starts_as_always() -> None:
    fleet = on_trial()
    del fleet.hub.rollouts["digits-2"]
    fleet.hub.edit(bundle=bundle(3), rollout={})
    fleet.go(20)
    assert fleet.hub.condition("Ready") == ("True", "Complete")


@pytest.mark.parametrize(
    ("after", "told"), [(timedelta(hours=23), {"s00"}), (timedelta(hours=25), {"s00", "s01"})]
)
def test_a_removal_nobody_ever_hears_stands_in_the_way_of_no_other_for_ever(
    after: timedelta, told: set[str]
) -> None:
    sites = [f"s{number:02}" for number in range(5)]
    fleet = served(
        {name: {"here": "yes"} for name in sites},
        placement={"siteSelector": {"matchLabels": {"here": "yes"}}},
    )
    fleet.sites["s00"].linked = False
    fleet.hub.sites["s00"]["metadata"]["labels"] = {}
    fleet.go(2)
    fleet.hub.tick(after.total_seconds())
    for name in sites[1:]:
        fleet.sites[name].sync()
    fleet.sites["s01"].linked = False
    fleet.hub.sites["s01"]["metadata"]["labels"] = {}
    fleet.go(2)
    assert {name for name, raw in fleet.hub.orders.items() if raw["spec"]["state"] == "Remove"} == told
