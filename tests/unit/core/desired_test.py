"""Orders: modes, what they replace, catching up, leaving the placement, and the end of a model."""

from typing import Any

import pytest
from support.fleet import World, served
from support.hubs import Hub, bundle, changes

DE = {"placement": {"siteSelector": {"matchLabels": {"country": "de"}}}}


def german(names: str, **spec: Any) -> World:
    """Sites in Germany, on which the model is placed and serves."""
    return served({name: {"country": "de"} for name in names}, **DE, **spec)


def mode(of: World, site: str) -> str:
    """Mode of a site's order."""
    return str(of.hub.orders[site]["spec"]["mode"])


def test_a_first_install_is_direct_and_the_next_revision_a_canary() -> None:
    fleet = served("a")
    assert mode(fleet, "a") == "Direct"
    fleet.hub.edit(bundle=bundle(2))
    fleet.go(2)
    assert mode(fleet, "a") == "Canary"


def test_the_verb_direct_turns_canaries_in_flight_into_direct_ones() -> None:
    fleet = served("a")
    fleet.hub.edit(bundle=bundle(2))
    fleet.go(2)
    fleet.hub.verb("digits-2", direct=True)
    assert [(write.reason, write.order.mode) for write in fleet.hub.look().orders] == [("Direct", "Direct")]


def test_a_site_that_joins_later_gets_the_current_revision_at_once() -> None:
    fleet = served("ab", rollout={"waves": [{"name": "one", "limit": 1, "soak": "7d"}, {"name": "all"}]})
    fleet.hub.edit(bundle=bundle(2))
    fleet.go()
    fleet.hub.join("c")
    written = fleet.hub.look().orders
    assert [(write.site, write.reason, write.order.revision) for write in written] == [
        ("c", "CatchUp", fleet.hub.revision(1))
    ]


def test_a_site_that_only_ever_served_a_revision_now_banned_goes_to_the_good_one_directly() -> None:
    """Its canary would be judged by the model it leaves."""
    fleet = served("ab")
    fleet.hub.edit(bundle=bundle(2))
    fleet.go()
    fleet.sites["b"].previous = ""
    fleet.go(1)
    fleet.hub.verb("digits-2", desired="Aborted")
    written = {write.site: write.order for write in fleet.hub.look().orders}
    assert (written["b"].mode, written["b"].revision) == ("Direct", fleet.hub.revision(1))


def test_a_canary_beside_a_banned_revision_is_not_asked_to_agree_with_it() -> None:
    gates = {"steps": [{"shadow": 100, "duration": "1m"}], "gates": {"minAgreement": "98%"}}
    fleet = served("a", canary=gates)
    fleet.hub.edit(bundle=bundle(2))
    assert [write.order.canary.gates.min_agreement for write in fleet.go(2)] == ["98%"]
    fleet.go(6)
    fleet.sites["a"].linked = False
    fleet.hub.verb("digits-2", desired="Aborted")
    fleet.hub.look()
    fleet.hub.edit(bundle=bundle(3))
    written = fleet.go(2)
    offer = written[-1].order
    assert (offer.mode, offer.bundle, offer.canary.gates.min_agreement) == ("Canary", bundle(3), "")


def test_an_order_to_a_lower_version_names_the_digest_to_leave() -> None:
    fleet = served("a")
    fleet.hub.edit(bundle=bundle(2))
    fleet.go()
    fleet.hub.verb("digits-2", desired="Aborted")
    written = fleet.hub.look().orders
    assert [write.order.replaces for write in written] == [bundle(2).rpartition("@")[2]]
    fleet.go()
    assert fleet.active()["a"] == fleet.hub.revision(1)


def test_a_site_that_may_have_gone_on_in_the_dark_is_told_to_leave_what_it_was_last_ordered() -> None:
    fleet = served("a")
    fleet.hub.edit(bundle=bundle(2))
    fleet.go(2)
    fleet.sites["a"].linked = False
    fleet.hub.verb("digits-2", desired="Aborted")
    (written,) = fleet.hub.look().orders
    assert (written.order.bundle, written.order.replaces) == (bundle(1), bundle(2).rpartition("@")[2])


def test_what_serves_at_a_site_but_never_was_ordered_by_this_hub_is_not_named() -> None:
    fleet = served("a")
    assert fleet.sites["a"].active is not None
    fleet.sites["a"].active["bundle"] = bundle(7)
    fleet.sites["a"].sync()
    fleet.hub.edit(bundle=bundle(2))
    fleet.hub.look()
    (written,) = fleet.hub.look().orders
    assert written.order.replaces == bundle(1).rpartition("@")[2]


def test_a_restored_hub_cannot_name_a_digest_it_never_ordered() -> None:
    fleet = served("a")
    backup = Hub(model=fleet.hub.model, rollouts=dict(fleet.hub.rollouts))
    fleet.hub.edit(bundle=bundle(2))
    fleet.go()
    fleet.hub.rollouts = backup.rollouts
    fleet.hub.edit(bundle=bundle(1))
    fleet.hub.orders["a"]["spec"] |= {
        "bundle": bundle(1),
        "revision": fleet.hub.revision(1),
        "rollout": "digits-1",
        "attempt": 1,
    }
    fleet.hub.orders["a"]["metadata"]["generation"] += 1
    fleet.hub.orders["a"]["spec"].pop("replaces", None)
    fleet.go(6)
    assert fleet.hub.orders["a"]["status"]["reason"] == "HubBehind"
    assert fleet.hub.orders["a"]["spec"].get("replaces", "") == ""
    assert fleet.sites["a"].active is not None
    assert fleet.sites["a"].active["bundle"] == bundle(2)


def test_what_was_promoted_in_the_dark_can_be_left_for_any_other_version() -> None:
    fleet = served("ab")
    fleet.hub.edit(bundle=bundle(5))
    fleet.go(2)
    fleet.sites["a"].linked = False
    fleet.go(3)
    fleet.hub.verb("digits-2", desired="Aborted")
    fleet.hub.look()
    fleet.hub.edit(bundle=bundle(3))
    fleet.go(6)
    assert fleet.sites["a"].active is not None
    assert fleet.sites["a"].active["bundle"] == bundle(5)
    fleet.sites["a"].linked = True
    fleet.go(12)
    assert {fleet.hub.revision(3)} == set(fleet.active().values())


def test_catching_up_has_a_breaker_of_its_own() -> None:
    fleet = served("abc")
    fleet.hub.edit(bundle=bundle(2))
    for name in "bc":
        fleet.sites[name].linked = False
    fleet.hub.tick(400)
    fleet.sites["a"].sync()
    fleet.hub.edit(rollout={"waves": [{"name": "all", "minSuccess": 1}]})
    fleet.go()
    assert fleet.hub.condition("Ready") == ("True", "Complete")
    fleet.fail(2, "b")
    fleet.sites["b"].linked = True
    fleet.go()
    assert fleet.hub.condition("Stalled") == ("True", "CatchUpFailing")
    fleet.sites["c"].linked = True
    fleet.go()
    assert fleet.active()["c"] == fleet.hub.revision(1), "nobody catches up any more"
    fleet.hub.edit(rollout={"waves": [{"name": "all", "maxFailures": 1}]})
    fleet.go()
    assert fleet.active()["c"] == fleet.hub.revision(2)
    assert fleet.active()["b"] == fleet.hub.revision(1)
    assert fleet.hub.condition("Ready") == ("True", "Complete")


def test_nobody_catches_up_while_the_model_is_paused() -> None:
    fleet = served("a")
    fleet.hub.join("b")
    fleet.hub.edit(paused=True)
    assert fleet.hub.look().orders == ()
    fleet.hub.edit(paused=False)
    assert [write.reason for write in fleet.hub.look().orders] == ["CatchUp"]


def test_no_more_than_fifty_sites_catch_up_at_a_time() -> None:
    fleet = served("a")
    for number in range(70):
        fleet.hub.join(f"x{number:02}")
    assert len(fleet.hub.look().orders) == 50
    assert len(fleet.hub.look().orders) == 0


# -- leaving the placement ------------------------------------------------------------------------------


def test_a_site_that_leaves_the_placement_is_told_to_remove() -> None:
    fleet = german("ab")
    fleet.hub.sites["b"]["metadata"]["labels"] = {"country": "fr"}
    written = fleet.hub.look().orders
    assert [(write.site, write.order.state) for write in written] == [("b", "Remove")]
    fleet.go(4)
    assert set(fleet.hub.orders) == {"a"}, "deleted once the site says it is removed"
    assert fleet.active() == {"a": fleet.hub.revision(1), "b": ""}


def test_a_site_that_comes_back_gets_the_model_again() -> None:
    fleet = german("ab")
    fleet.hub.sites["b"]["metadata"]["labels"] = {"country": "fr"}
    fleet.hub.look()
    fleet.hub.sites["b"]["metadata"]["labels"] = {"country": "de"}
    fleet.go(6)
    assert fleet.active()["b"] == fleet.hub.revision(1)


def test_many_removals_wait_for_a_persons_consent() -> None:
    fleet = german("abc")
    fleet.hub.edit(placement={"siteSelector": {"matchLabels": {"country": "fr"}}})
    fleet.go(3)
    assert fleet.hub.condition("Stalled") == ("True", "RemovalNeedsApproval")
    assert {raw["spec"]["state"] for raw in fleet.hub.orders.values()} == {"Run"}
    asked = fleet.hub.message().rpartition("--wave ")[2].rstrip("`")
    fleet.hub.verb("digits-1", approvals=[{"wave": asked, "by": "ann"}])
    fleet.go(4)
    assert set(fleet.active().values()) == {""}
    assert fleet.hub.orders == {}


def test_putting_the_selector_right_needs_no_consent() -> None:
    fleet = german("abc")
    fleet.hub.edit(placement={"siteSelector": {"matchLabels": {"country": "fr"}}})
    fleet.go(2)
    fleet.hub.edit(**DE)
    fleet.go(2)
    assert fleet.hub.condition("Ready") == ("True", "Complete")


def test_consent_to_one_removal_is_none_to_the_next() -> None:
    fleet = german("abc")
    fleet.hub.edit(placement={"siteSelector": {"matchLabels": {"country": "fr"}}})
    fleet.go(1)
    asked = fleet.hub.message().rpartition("--wave ")[2].rstrip("`")
    fleet.hub.edit(**DE)
    fleet.hub.verb("digits-1", approvals=[{"wave": asked, "by": "ann"}])
    fleet.hub.edit(placement={"siteSelector": {"matchLabels": {"country": "it"}}})
    fleet.go(3)
    assert fleet.hub.condition("Stalled") == ("True", "RemovalNeedsApproval")


def test_orders_of_a_deleted_site_are_left_alone() -> None:
    fleet = german("ab")
    del fleet.hub.sites["b"]
    fleet.go(3)
    assert fleet.hub.orders["b"]["spec"]["state"] == "Run"


# -- the end of a model -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("policy", "state"), [("Remove", "Remove"), ("Keep", "Keep")])
def test_a_deleted_model_turns_its_orders_and_waits_for_no_site(policy: str, state: str) -> None:
    fleet = served("ab", deletionPolicy=policy)
    assert (fleet.hub.model or {})["metadata"]["finalizers"] == ["edgefleet.dev/orders"]
    fleet.sites["b"].linked = False
    (fleet.hub.model or {})["metadata"]["deletionTimestamp"] = "2026-01-31T12:00:00Z"
    fleet.hub.look()
    fleet.hub.look()
    assert fleet.hub.model is None
    assert {raw["spec"]["state"] for raw in fleet.hub.orders.values()} == {state}
    fleet.go(4)
    assert set(fleet.hub.orders) == {"b"}, "a has carried its order out, b has not heard of it"
    kept = fleet.active()["a"] != ""
    assert kept == (policy == "Keep")


def test_the_definition_itself_going_away_removes_nothing() -> None:
    fleet = served("a")
    fleet.hub.crd_deleting = True
    (fleet.hub.model or {})["metadata"]["deletionTimestamp"] = "2026-01-31T12:00:00Z"
    fleet.go(4)
    assert fleet.hub.model is None
    assert fleet.active()["a"] != ""


def test_a_model_that_vanished_without_its_finalizer_changes_nothing() -> None:
    fleet = served("a")
    fleet.hub.model = None
    assert changes(fleet.hub.look()) == []
    assert fleet.hub.orders["a"]["spec"]["state"] == "Run"


def test_an_order_that_cannot_be_read_is_left_alone() -> None:
    fleet = served("ab")
    fleet.hub.orders["b"]["spec"]["fromTheFuture"] = True
    fleet.hub.edit(bundle=bundle(2))
    fleet.go(6)
    assert fleet.hub.orders["b"]["spec"]["bundle"] == bundle(1)
    assert fleet.ordered()["a"] == fleet.hub.revision(2)
