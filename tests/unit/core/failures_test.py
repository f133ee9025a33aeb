"""The memory of failed sites only ever grows, also beyond what it lists."""

from support.fleet import World, world
from support.hubs import bundle

MANY = {"waves": [{"name": "all", "maxFailures": "100%", "minSuccess": 1, "maxConcurrency": 1000}]}


def many(count: int, failing: int) -> World:
    """Bundle 1 serves at many sites, and bundle 2 will fail at the first so many of them."""
    fleet = world({f"s{number:03}": {} for number in range(count)}, rollout=MANY)
    fleet.go(5)
    fleet.fail(2, *list(fleet.sites)[:failing])
    fleet.hub.edit(bundle=bundle(2))
    return fleet


def test_more_failures_than_are_listed_are_counted_and_remembered() -> None:
    fleet = many(230, 220)
    fleet.go(6)
    status = fleet.hub.rollout(2)["status"]
    assert len(status["failures"]) == 200
    assert status["counts"]["failed"] == 220
    assert status["waves"][0]["failed"] == 220
    fleet.go(3)
    assert fleet.hub.rollout(2)["status"]["counts"]["failed"] == 220, "counted once each"
    failed = list(fleet.sites)[:220]
    assert {fleet.ordered()[name] for name in failed} == {fleet.hub.revision(1)}, "none is offered it again"
    assert fleet.hub.condition("Ready") == ("True", "Complete")


def test_unlisted_failures_survive_the_deletion_of_their_sites_and_a_new_one_still_counts() -> None:
    fleet = many(230, 220)
    for name in list(fleet.sites)[210:230]:
        fleet.sites[name].blocked = True
    fleet.go(6)
    assert fleet.hub.rollout(2)["status"]["counts"]["failed"] == 210
    fleet.sites["s215"].blocked = False
    fleet.go(4)
    assert fleet.hub.rollout(2)["status"]["counts"]["failed"] == 211
    for name in ("s001", "s205"):
        del fleet.hub.sites[name]
    fleet.go(2)
    assert fleet.hub.rollout(2)["status"]["counts"]["failed"] == 211


def test_a_failure_says_where_why_and_in_which_wave() -> None:
    fleet = many(3, 1)
    fleet.go(6)
    (failure,) = fleet.hub.rollout(2)["status"]["failures"]
    assert {key: failure[key] for key in ("site", "reason", "wave")} == {
        "site": "s000",
        "reason": "GoldenDisagrees",
        "wave": "all",
    }
    assert failure["message"].startswith("12 %")
