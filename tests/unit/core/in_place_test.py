"""Edits that reach orders already written, with no new attempt."""

from typing import Any

import pytest
from support.fleet import World, served
from support.hubs import bundle

GOLDEN = {"steps": [{"weight": 100, "duration": "1s"}], "onNoTraffic": "Golden"}
ELSEWHERE = bundle(2).replace("registry.example", "registry.corrected.example")


def hold(of: World, site: str, stage: str = "Held", reason: str = "NoTraffic") -> None:
    """Let a site say that it waits, in answer to its order."""
    live = of.hub.orders[site]
    identity = {"uid": live["metadata"]["uid"], "generation": live["metadata"]["generation"]}
    live["status"] = of.sites[site].report() | {
        "order": identity,
        "stage": stage,
        "reason": reason,
        "message": "nobody calls",
    }


def under_way(sites: str = "ab", **spec: Any) -> World:
    """Bundle 1 serves, and sites are at work on bundle 2."""
    fleet = served(sites, **spec)
    fleet.hub.edit(bundle=bundle(2))
    fleet.hub.look()
    fleet.hub.look()
    return fleet


def test_other_canary_settings_reach_the_orders_in_flight_and_no_others() -> None:
    fleet = under_way("abc")
    for _ in range(2):
        fleet.sites["a"].sync()
        fleet.sites["a"].work()
    fleet.sites["a"].sync()
    fleet.hub.edit(canary=GOLDEN)
    written = fleet.hub.look().orders
    assert {
        (write.site, write.order.canary.on_no_traffic.value, write.order.attempt) for write in written
    } == {
        ("b", "Golden", 1),
        ("c", "Golden", 1),
    }
    assert all(len(write.order.canary.steps) == 1 for write in written)
    assert fleet.hub.look().orders == ()
    fleet.go(6)
    assert fleet.hub.condition("Ready") == ("True", "Complete")


def test_a_rollout_that_only_waits_for_held_sites_names_them_their_reason_and_what_to_do() -> None:
    fleet = under_way("ab")
    hold(fleet, "a")
    hold(fleet, "b")
    fleet.hub.look()
    assert fleet.hub.condition("Reconciling")[0] == "True"
    told = fleet.hub.message()
    for part in (
        "a: NoTraffic, nobody calls",
        "b: NoTraffic",
        "onNoTraffic",
        "rollout direct digits-2",
        "abort digits-2",
    ):
        assert part in told


def test_while_a_site_is_at_work_the_held_ones_are_only_counted() -> None:
    fleet = under_way("ab")
    hold(fleet, "a")
    fleet.hub.look()
    assert "1 at work, 1 waiting at the site" in fleet.hub.message()
    assert "nobody calls" not in fleet.hub.message()


def test_a_change_of_an_old_order_gives_the_site_its_full_time_to_answer() -> None:
    fleet = served("ab")
    for _ in range(6):
        fleet.hub.tick(120)
        fleet.sites["a"].sync()
        fleet.sites["b"].sync()
    fleet.hub.edit(serving={"replicas": 2})
    fleet.hub.look()
    fleet.hub.look()
    assert fleet.hub.model is not None
    assert fleet.hub.model["status"]["sites"]["unreachable"] == 0
    fleet.go(2)
    assert fleet.hub.condition("Ready") == ("True", "Complete")


def test_a_registry_corrected_under_the_same_digest_reaches_the_sites_that_still_wait_for_it() -> None:
    fleet = under_way("ab")
    for _ in range(2):
        fleet.sites["a"].sync()
        fleet.sites["a"].work()
    fleet.sites["a"].sync()
    hold(fleet, "b", "Blocked", "RegistryUnreachable")
    fleet.hub.edit(bundle=ELSEWHERE)
    written = fleet.hub.look().orders
    assert [(write.site, write.order.bundle, write.order.rollout) for write in written] == [
        ("b", ELSEWHERE, "digits-2")
    ]
    assert fleet.hub.look().orders == ()
    assert len(fleet.hub.rollouts) == 2


def test_whoever_is_offered_later_is_sent_to_the_corrected_registry() -> None:
    fleet = under_way("a")
    fleet.go(6)
    fleet.hub.edit(bundle=ELSEWHERE)
    fleet.hub.join("b")
    (written,) = fleet.hub.look().orders
    assert (written.site, written.order.bundle) == ("b", ELSEWHERE)


@pytest.mark.parametrize("behind", ["pause", "breaker", "absence"])
def test_the_number_of_pods_waits_for_nothing(behind: str) -> None:
    fleet = served("ab")
    if behind == "pause":
        fleet.hub.edit(paused=True)
    elif behind == "breaker":
        fleet.hub.rollout(1)["status"]["counts"]["failed"] = 5
        fleet.hub.look()
        assert fleet.hub.condition("Stalled") == ("True", "CatchUpFailing")
    else:
        fleet.hub.tick(400)
    fleet.hub.edit(serving={"replicas": 3})
    assert {(write.site, write.order.serving.replicas) for write in fleet.hub.look().orders} == {
        ("a", 3),
        ("b", 3),
    }


def test_an_edit_of_the_canary_while_paused_reaches_the_canaries_that_go_on() -> None:
    fleet = under_way("a")
    fleet.hub.edit(paused=True, canary=GOLDEN)
    assert [write.site for write in fleet.hub.look().orders] == ["a"]
    assert fleet.hub.look().orders == ()


def test_an_edit_of_the_canary_changes_no_order_of_a_rollout_that_is_over() -> None:
    fleet = served("ab")
    fleet.hub.edit(canary=GOLDEN)
    assert fleet.go(3) == []
