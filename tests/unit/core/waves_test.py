"""Who is admitted when, and when a wave is complete."""

from typing import Any

import pytest
from edgefleet.core import model_pass, waves
from edgefleet.core.specs import Wave
from support.fleet import World, served, world
from support.hubs import bundle, shuffled

RING = {"siteSelector": {"matchLabels": {"ring": "0"}}}


def rollout(*given: dict[str, Any], **more: Any) -> dict[str, Any]:
    """`spec.rollout` with these waves."""
    return {"waves": list(given), **more}


def wave(of: World, number: int, name: str) -> dict[str, Any]:
    """Status of a wave of a rollout."""
    return next(item for item in of.hub.rollout(number)["status"]["waves"] if item["name"] == name)


def offered(of: World, number: int) -> set[str]:
    """Sites whose order names a rollout."""
    name = of.hub.rollout(number)["metadata"]["name"]
    return {site for site, raw in of.hub.orders.items() if raw["spec"]["rollout"] == name}


def test_waves_follow_one_another_and_the_last_takes_what_is_left() -> None:
    fleet = world({"a": {"ring": "0"}, "b": {}, "c": {}}, rollout=rollout({"name": "canary", **RING}))
    fleet.go(2)
    assert offered(fleet, 1) == {"a"}
    fleet.go(10)
    assert offered(fleet, 1) == {"a", "b", "c"}
    assert [item["name"] for item in fleet.hub.rollout(1)["status"]["waves"]] == ["canary", "rest"]
    assert fleet.hub.rollout(1)["status"]["outcome"] == "Complete"


def test_no_more_are_offered_than_may_be_in_flight() -> None:
    fleet = world("abcde", rollout=rollout({"name": "all", "maxConcurrency": 2}))
    fleet.hub.look()
    first = fleet.hub.look().orders
    assert [write.site for write in first] == ["a", "b"]
    assert fleet.hub.look().orders == ()
    fleet.sites["b"].sync()
    fleet.sites["b"].work()
    fleet.sites["b"].work()
    fleet.sites["b"].sync()
    assert [write.site for write in fleet.hub.look().orders] == ["c"]


@pytest.mark.parametrize("give_back", ["blocked", "away"])
def test_a_site_that_cannot_go_on_gives_its_slot_back(give_back: str) -> None:
    fleet = world("ab", rollout=rollout({"name": "all", "maxConcurrency": 1}))
    fleet.hub.look()
    fleet.hub.look()
    assert offered(fleet, 1) == {"a"}
    if give_back == "blocked":
        fleet.sites["a"].blocked = True
        fleet.sites["a"].sync()
    else:
        fleet.hub.tick(361)
        fleet.sites["b"].sync()
    fleet.hub.look()
    assert offered(fleet, 1) == {"a", "b"}


def test_a_limit_becomes_a_number_when_the_wave_starts() -> None:
    fleet = world("abcd", rollout=rollout({"name": "some", "limit": "50%", "minSuccess": "100%"}))
    fleet.sites["a"].blocked = True
    fleet.go(6)
    assert offered(fleet, 1) == {"a", "b"}
    assert wave(fleet, 1, "some")["limit"] == 2
    for name in "efghij":
        fleet.hub.join(name)
    fleet.go(4)
    assert offered(fleet, 1) == {"a", "b"}
    assert wave(fleet, 1, "some")["limit"] == 2


def test_a_wave_with_too_few_healthy_sites_holds_and_says_who_must_act() -> None:
    fleet = world("ab", rollout=rollout({"name": "all", "minSuccess": "100%"}))
    fleet.sites["b"].blocked = True
    fleet.go()
    assert fleet.hub.condition("Reconciling") == ("True", "NotEnoughSites")
    assert "1 of 2 healthy, 2 needed: 0 unreachable, 1 blocked" in fleet.hub.message()
    fleet.sites["b"].blocked = False
    fleet.go()
    assert fleet.hub.condition("Ready") == ("True", "Complete")


def test_a_selector_that_matches_no_site_holds_instead_of_passing() -> None:
    fleet = world("ab", rollout=rollout({"name": "typo", **RING}))
    fleet.go()
    assert fleet.hub.condition("Reconciling") == ("True", "NotEnoughSites")
    assert "wave typo: no placed site" in fleet.hub.message()
    assert fleet.hub.orders == {}


def test_a_wave_whose_sites_were_all_admitted_before_passes() -> None:
    both = rollout({"name": "one", **RING}, {"name": "two", **RING})
    fleet = world({"a": {"ring": "0"}}, rollout=both)
    fleet.go(10)
    assert fleet.hub.condition("Ready") == ("True", "Complete")


def test_sites_that_are_away_hold_a_wave_that_needs_them() -> None:
    fleet = served("ab")
    fleet.sites["b"].linked = False
    fleet.hub.tick(400)
    fleet.sites["a"].sync()
    fleet.hub.edit(bundle=bundle(2), rollout=rollout({"name": "all", "minSuccess": "100%"}))
    fleet.go()
    assert fleet.hub.condition("Reconciling") == ("True", "NotEnoughSites")
    assert fleet.hub.rollout(2)["status"]["counts"]["unreachable"] == 0
    fleet.sites["b"].linked = True
    fleet.go()
    assert fleet.hub.condition("Ready") == ("True", "Complete")
    assert set(fleet.active().values()) == {fleet.hub.revision(2)}


def test_a_site_that_is_away_catches_up_after_the_rollout_is_over() -> None:
    fleet = served("ab")
    fleet.sites["b"].linked = False
    fleet.hub.tick(400)
    fleet.sites["a"].sync()
    fleet.hub.edit(bundle=bundle(2))
    fleet.go()
    assert fleet.hub.condition("Ready") == ("True", "Complete")
    assert "serves at 1 of 2 sites; 1 unreachable will catch up" in fleet.hub.message()
    fleet.sites["b"].linked = True
    written = fleet.go()
    assert [(write.site, write.reason) for write in written] == [("b", "CatchUp")]
    assert set(fleet.active().values()) == {fleet.hub.revision(2)}


def test_soak_needs_signs_of_life_newer_than_its_start() -> None:
    fleet = world("ab", rollout=rollout({"name": "all", "soak": "60s", "minSuccess": "100%"}))
    fleet.go(8)
    assert fleet.hub.condition("Reconciling") == ("True", "Soaking")
    fleet.sites["b"].linked = False
    fleet.hub.tick(61)
    fleet.sites["a"].sync()
    fleet.hub.leases["b"]["metadata"]["managedFields"][0]["time"] = "2026-01-31T11:59:59Z"
    fleet.hub.orders["b"]["metadata"].pop("managedFields", None)
    fleet.hub.look()
    assert fleet.hub.condition("Reconciling") == ("True", "NotEnoughSites")
    fleet.sites["b"].linked = True
    fleet.go(1)
    fleet.hub.look()
    assert fleet.hub.condition("Ready") == ("True", "Complete")


def test_the_hub_looks_again_when_the_soak_is_over() -> None:
    fleet = world("a", rollout=rollout({"name": "all", "soak": "60s"}))
    fleet.go(4)
    fleet.hub.tick(20)
    started = wave(fleet, 1, "all")["soakStartedAt"]
    decision = fleet.hub.look()
    assert started == wave(fleet, 1, "all")["soakStartedAt"]
    assert decision.requeue_after is not None
    fleet.hub.tick(decision.requeue_after)
    fleet.sites["a"].sync()
    fleet.hub.look()
    assert fleet.hub.condition("Ready") == ("True", "Complete")


def test_a_pause_freezes_the_soak_where_it_stands() -> None:
    fleet = world("a", rollout=rollout({"name": "all", "soak": "60s"}))
    fleet.go(5)
    fleet.hub.tick(30)
    fleet.hub.edit(paused=True)
    fleet.hub.look()
    fleet.hub.tick(3600)
    fleet.sites["a"].sync()
    fleet.hub.look()
    assert fleet.hub.condition("Reconciling") == ("True", "Paused")
    fleet.hub.edit(paused=False)
    fleet.hub.look()
    assert fleet.hub.condition("Reconciling") == ("True", "Soaking")
    fleet.hub.tick(31)
    fleet.sites["a"].sync()
    fleet.hub.look()
    assert fleet.hub.condition("Ready") == ("True", "Complete")


@pytest.mark.parametrize("where", ["model", "rollout"])
def test_paused_anywhere_stops_offers(where: str) -> None:
    fleet = world("ab")
    fleet.hub.look()
    if where == "model":
        fleet.hub.edit(paused=True)
    else:
        fleet.hub.verb("digits-1", desired="Paused")
    fleet.go(3)
    assert fleet.hub.orders == {}
    assert fleet.hub.condition("Reconciling") == ("True", "Paused")


def test_a_wave_waits_for_a_persons_approval() -> None:
    fleet = world("ab", rollout=rollout({"name": "first", "limit": 1}, {"name": "all", "approval": True}))
    fleet.go()
    assert offered(fleet, 1) == {"a"}
    assert fleet.hub.condition("Reconciling") == ("True", "WaitingApproval")
    assert "edgefleet rollout approve digits-1 --wave all" in fleet.hub.message()
    fleet.hub.verb("digits-1", approvals=[{"wave": "all", "by": "ann"}])
    fleet.go()
    assert fleet.hub.condition("Ready") == ("True", "Complete")


def test_finish_needs_no_soak_no_approval_and_no_limit() -> None:
    held = rollout(
        {"name": "first", "limit": 1, "soak": "7d"}, {"name": "all", "approval": True, "soak": "7d"}
    )
    fleet = world("abc", rollout=held)
    fleet.go()
    fleet.hub.verb("digits-1", finish=True)
    fleet.go()
    assert fleet.hub.condition("Ready") == ("True", "Complete")
    assert offered(fleet, 1) == {"a", "b", "c"}


@pytest.mark.parametrize(
    ("given", "sites", "allowed"),
    [
        pytest.param(None, 10, 0, id="none among ten"),
        pytest.param(None, 11, 0, id="2 % of eleven is none"),
        pytest.param(None, 100, 2, id="two among a hundred"),
        pytest.param("10%", 25, 2, id="a share is rounded down"),
        pytest.param(3, 5, 3, id="a number is a number"),
        pytest.param("100%", 5, 5, id="all of them"),
    ],
)
def test_failures_a_wave_may_have(given: int | str | None, sites: int, allowed: int) -> None:
    assert waves.allowed_failures(Wave(name="all", max_failures=given), sites) == allowed


def test_failures_within_the_limit_do_not_stop_a_wave() -> None:
    fleet = served("abc", rollout=rollout({"name": "all", "maxFailures": 1}))
    fleet.fail(2, "b")
    fleet.hub.edit(bundle=bundle(2))
    fleet.go()
    good, new = fleet.hub.revision(1), fleet.hub.revision(2)
    assert fleet.hub.condition("Ready") == ("True", "Complete")
    assert fleet.active() == {"a": new, "b": good, "c": new}
    assert fleet.ordered() == {"a": new, "b": good, "c": new}


def test_one_failure_too_many_takes_every_site_back_also_those_away() -> None:
    fleet = served("abcd", rollout=rollout({"name": "all", "maxConcurrency": 2}))
    fleet.fail(2, "b")
    fleet.hub.edit(bundle=bundle(2))
    fleet.go(2)
    fleet.sites["a"].linked = False
    fleet.go(3)
    assert fleet.hub.rollout(2)["status"]["outcome"] == "RolledBack"
    assert set(fleet.ordered().values()) == {fleet.hub.revision(1)}
    assert fleet.active()["a"] == fleet.hub.revision(2), "promoted in the dark"
    fleet.sites["a"].linked = True
    fleet.go(4)
    assert set(fleet.active().values()) == {fleet.hub.revision(1)}


def test_with_the_strategy_pause_offers_stop_and_a_person_must_act() -> None:
    fleet = served("abc", rollout=rollout({"name": "all", "maxConcurrency": 1}, failureStrategy="Pause"))
    fleet.fail(2, "a")
    fleet.hub.edit(bundle=bundle(2))
    fleet.go()
    assert fleet.hub.condition("Stalled") == ("True", "MaxFailuresExceeded")
    assert offered(fleet, 2) == set()
    fleet.hub.edit(rollout=rollout({"name": "all", "maxFailures": 1}))
    fleet.go()
    assert fleet.hub.condition("Ready") == ("True", "Complete")


def test_what_is_not_the_models_fault_is_never_counted() -> None:
    fleet = served("ab")
    fleet.sites["b"].blocked = True
    fleet.hub.edit(bundle=bundle(2))
    fleet.go()
    counts = fleet.hub.rollout(2)["status"]["counts"]
    assert (counts["failed"], counts["blocked"]) == (0, 1)
    assert fleet.hub.condition("Ready") == ("True", "Complete"), "half of the sites are enough"


@pytest.mark.parametrize("vanish", ["relabelled", "deleted", "cordoned", "replaced"])
def test_a_failure_is_counted_whatever_becomes_of_its_site(vanish: str) -> None:
    fleet = served(
        {name: {"in": "yes"} for name in "abcd"}, rollout=rollout({"name": "all", "maxFailures": 1})
    )
    fleet.hub.edit(placement={"siteSelector": {"matchLabels": {"in": "yes"}}})
    fleet.fail(2, "a", "b")
    fleet.hub.edit(bundle=bundle(2), rollout=rollout({"name": "all", "maxFailures": 1, "maxConcurrency": 1}))
    fleet.go(4)
    assert fleet.hub.rollout(2)["status"]["counts"]["failed"] == 1
    match vanish:
        case "relabelled":
            fleet.hub.sites["a"]["metadata"]["labels"] = {}
        case "deleted":
            del fleet.hub.sites["a"]
        case "cordoned":
            fleet.hub.sites["a"]["spec"]["cordoned"] = True
        case _:
            fleet.hub.orders["a"]["status"] = {}
            fleet.sites["a"].linked = False
    fleet.go(6)
    assert fleet.hub.rollout(2)["status"]["counts"]["failed"] == 2
    assert fleet.hub.rollout(2)["status"]["outcome"] == "RolledBack"


def test_sites_that_are_cordoned_or_not_joined_are_outside_all_counts() -> None:
    fleet = world("abc", rollout=rollout({"name": "all", "minSuccess": "100%"}))
    fleet.hub.sites["b"]["spec"]["cordoned"] = True
    del fleet.hub.agents["c"]
    fleet.go()
    assert offered(fleet, 1) == {"a"}
    assert fleet.hub.condition("Ready") == ("True", "Complete")
    assert (fleet.hub.model or {})["status"]["sites"]["desired"] == 1


def test_a_site_whose_agent_does_not_understand_our_orders_gets_none() -> None:
    fleet = world("ab")
    fleet.hub.agents["b"]["status"]["understands"] = [2]
    fleet.go()
    assert offered(fleet, 1) == {"a"}


def test_a_site_that_beats_but_never_answers_is_unresponsive_and_gives_its_slot_back() -> None:
    fleet = world("ab", rollout=rollout({"name": "all", "maxConcurrency": 1}))
    fleet.hub.look()
    fleet.hub.look()
    for _ in range(6):
        fleet.hub.tick(120)
        fleet.hub.beat("a")
        fleet.hub.beat("b")
    fleet.hub.look()
    assert offered(fleet, 1) == {"a", "b"}
    assert fleet.hub.rollout(1)["status"]["counts"]["unreachable"] == 1


def test_a_report_on_an_older_order_is_no_success() -> None:
    fleet = world("a")
    fleet.go(6)
    fleet.hub.edit(serving={"replicas": 2})
    fleet.hub.look()
    status = (fleet.hub.model or {})["status"]
    fleet.hub.look()
    status = (fleet.hub.model or {})["status"]
    assert status["sites"]["healthy"] == 0
    fleet.sites["a"].sync()
    fleet.hub.look()
    status = (fleet.hub.model or {})["status"]
    assert status["sites"]["healthy"] == 1


def test_a_renamed_wave_asks_for_its_approval_all_the_same() -> None:
    fleet = world("abc", rollout=rollout({"name": "all", "maxConcurrency": 1}))
    fleet.go(2)
    fleet.hub.edit(rollout=rollout({"name": "everyone", "maxConcurrency": 1, "approval": True}))
    fleet.go(6)
    assert fleet.hub.condition("Reconciling") == ("True", "WaitingApproval")
    assert offered(fleet, 1) == {"a"}


def test_a_started_wave_whose_last_site_is_deleted_does_not_hold_for_ever() -> None:
    two = rollout({"name": "first", "limit": 1, "minSuccess": "100%"}, {"name": "all", "maxConcurrency": 1})
    fleet = world("ab", rollout=two)
    fleet.go(4)
    assert offered(fleet, 1) == {"a", "b"}
    del fleet.hub.sites["b"]
    fleet.go(3)
    assert fleet.hub.condition("Ready") == ("True", "Complete")
    assert wave(fleet, 1, "all")["admitted"] == 0


@pytest.mark.parametrize("seed", range(5))
def test_the_order_in_which_things_are_seen_changes_nothing(seed: int) -> None:
    fleet = served("abcdef", rollout=rollout({"name": "some", "limit": 3}))
    fleet.hub.edit(bundle=bundle(2))
    fleet.hub.look()
    seen = fleet.hub.seen()
    decision = model_pass.decide_model(seen, fleet.hub.now)
    assert len(decision.orders) == 3
    assert model_pass.decide_model(shuffled(seen, seed), fleet.hub.now) == decision
    fleet.go(5)
    fleet.hub.verb("digits-2", desired="Aborted")
    seen = fleet.hub.seen()
    decision = model_pass.decide_model(seen, fleet.hub.now)
    assert len(decision.orders) == 6
    assert model_pass.decide_model(shuffled(seen, seed), fleet.hub.now) == decision
