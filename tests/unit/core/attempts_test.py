"""Revisions and attempts: what starts one, what ends one, and what may start again."""

from typing import Any

import pytest
from edgefleet.core.seen import BundleCheck
from support.fleet import World, served, world
from support.hubs import IMAGE, bundle

CANARY = {"siteSelector": {"matchLabels": {"ring": "0"}}}
WAVES = {"waves": [{"name": "canary", **CANARY}]}
TWO = {"a": {"ring": "0"}, "b": {}}


def failed_with_two(**spec: Any) -> World:
    """Bundle 1 serves; bundle 2 failed at the canary site and is banned."""
    fleet = served(TWO, rollout=WAVES, **spec)
    fleet.fail(2)
    fleet.hub.edit(bundle=bundle(2))
    fleet.go()
    return fleet


def test_a_failed_revision_is_banned_and_both_digests_are_named() -> None:
    fleet = failed_with_two()
    assert fleet.hub.condition("Stalled") == ("True", "RolledBack")
    assert fleet.hub.condition("Ready") == ("False", "RolledBack")
    for number in (1, 2):
        assert bundle(number).rpartition("@")[2] in fleet.hub.message()
    assert "first a with GoldenDisagrees" in fleet.hub.message()
    assert (fleet.hub.model or {})["spec"]["bundle"] == bundle(2), "the spec is left alone"
    assert set(fleet.active().values()) == {fleet.hub.revision(1)}


def test_a_failed_revision_does_not_start_again_by_itself() -> None:
    fleet = failed_with_two()
    fleet.hub.tick(86400)
    fleet.go()
    assert set(fleet.hub.rollouts) == {"digits-1", "digits-2"}


def test_applying_a_failed_revision_again_later_says_what_to_do() -> None:
    fleet = failed_with_two()
    fleet.hub.edit(bundle=bundle(1))
    fleet.go()
    assert fleet.hub.condition("Ready") == ("True", "Complete")
    fleet.hub.edit(bundle=bundle(3))
    fleet.go(12)
    fleet.hub.edit(bundle=bundle(2))
    fleet.go()
    assert fleet.hub.condition("Stalled") == ("True", "RevisionFailedBefore")
    assert "edgefleet.dev/retry" in fleet.hub.message()
    assert set(fleet.active().values()) == {fleet.hub.revision(3)}


def test_a_new_value_of_the_retry_annotation_starts_another_attempt() -> None:
    fleet = failed_with_two()
    for site in fleet.sites.values():
        site.bad.clear()
    fleet.hub.annotate(retry="monday")
    fleet.go(12)
    again = fleet.hub.rollout(3)
    assert again["spec"]["attempt"] == 2
    assert again["spec"]["revision"] == fleet.hub.revision(2)
    assert again["spec"]["bundleVersion"] == 2
    assert set(fleet.active().values()) == {fleet.hub.revision(2)}


def test_the_same_value_of_the_retry_annotation_starts_nothing() -> None:
    fleet = failed_with_two()
    fleet.hub.annotate(retry="monday")
    fleet.go()
    fleet.hub.annotate(retry="monday")
    fleet.go()
    assert set(fleet.hub.rollouts) == {"digits-1", "digits-2", "digits-3"}
    assert fleet.hub.condition("Stalled") == ("True", "RolledBack")


def test_a_retry_asked_for_while_it_still_runs_is_used_up() -> None:
    fleet = served(TWO, rollout=WAVES)
    fleet.fail(2)
    fleet.hub.edit(bundle=bundle(2))
    fleet.hub.look()
    fleet.hub.annotate(retry="early")
    fleet.go()
    assert set(fleet.hub.rollouts) == {"digits-1", "digits-2"}


def test_a_number_made_up_by_one_site_does_not_push_the_attempts_of_the_fleet() -> None:
    fleet = failed_with_two()
    liar = next(site for site in fleet.sites.values() if site.refused)
    liar.refused[-1]["attempt"] = 999_999
    fleet.go(2)
    fleet.hub.annotate(retry="monday")
    fleet.go(12)
    assert fleet.hub.rollout(3)["spec"]["attempt"] == 2


def test_an_attempt_that_nobody_refused_is_not_numbered_again() -> None:
    """The first attempt was refused, the second one aborted before anybody had tried it: the third is no second."""
    fleet = failed_with_two()
    fleet.hub.annotate(retry="monday")
    fleet.hub.look()
    fleet.hub.verb("digits-3", desired="Aborted")
    fleet.go()
    for site in fleet.sites.values():
        site.bad.clear()
    fleet.hub.annotate(retry="tuesday")
    fleet.go(12)

    assert [fleet.hub.rollout(number)["spec"]["attempt"] for number in (2, 3, 4)] == [1, 2, 3]
    assert fleet.hub.condition("Ready") == ("True", "Complete")


def test_other_canary_settings_allow_another_attempt() -> None:
    fleet = failed_with_two()
    fleet.hub.edit(canary={"steps": [{"weight": 5, "duration": "1m"}]})
    fleet.go()
    assert fleet.hub.rollout(3)["spec"]["attempt"] == 2


def test_a_revision_is_the_bundle_not_the_number_of_pods() -> None:
    fleet = served("ab")
    fleet.hub.edit(serving={"replicas": 3})
    written = fleet.go()
    assert set(fleet.hub.rollouts) == {"digits-1"}
    assert {(write.reason, write.order.serving.replicas) for write in written} == {("Replicas", 3)}
    assert fleet.hub.condition("Ready") == ("True", "Complete")


def test_a_newer_pod_image_starts_nothing_by_itself_and_is_used_next_time() -> None:
    fleet = served("a")
    newer = IMAGE.replace("e" * 64, "f" * 64)
    fleet.hub.pod_image = newer
    fleet.go()
    assert set(fleet.hub.rollouts) == {"digits-1"}
    fleet.hub.edit(bundle=bundle(2))
    fleet.go()
    assert fleet.hub.rollout(1)["spec"]["image"] == IMAGE
    assert fleet.hub.rollout(2)["spec"]["image"] == newer


def test_a_newer_revision_supersedes_the_running_one_and_starts_where_that_serves() -> None:
    fleet = served(
        {"a": {}, "b": {}, "c": {"ring": "0"}},
        rollout={"waves": [{"name": "canary", **CANARY, "soak": "1h"}]},
    )
    fleet.hub.edit(bundle=bundle(2))
    fleet.go(6)
    assert fleet.active()["c"] == fleet.hub.revision(2)
    fleet.hub.edit(bundle=bundle(3), rollout={"waves": [{"name": "one", "limit": 1, "soak": "1h"}]})
    fleet.go(6)
    assert fleet.hub.rollout(2)["status"]["outcome"] == "Superseded"
    assert fleet.active()["c"] == fleet.hub.revision(3)
    assert fleet.active()["a"] == fleet.hub.revision(1)


def test_sites_already_on_a_superseded_revision_stay_until_they_are_admitted_to_the_newer_one() -> None:
    fleet = served("abc", rollout={"waves": [{"name": "two", "limit": 2, "soak": "1h"}]})
    fleet.hub.edit(bundle=bundle(2))
    fleet.go(6)
    fleet.hub.edit(bundle=bundle(3), rollout={"waves": [{"name": "one", "limit": 1, "soak": "1h"}]})
    written = fleet.go(6)
    assert [(write.site, write.reason) for write in written] == [("a", "Admitted")]
    assert fleet.active() == {
        name: fleet.hub.revision(number) for name, number in zip("abc", (3, 2, 1), strict=True)
    }


def test_a_canary_in_flight_goes_back_when_its_revision_is_superseded() -> None:
    fleet = served("ab", rollout={"waves": [{"name": "all", "maxConcurrency": 1}]})
    fleet.hub.edit(bundle=bundle(2))
    fleet.go(2)
    assert fleet.ordered()["a"] == fleet.hub.revision(2)
    fleet.hub.edit(
        bundle=bundle(3),
        rollout={"waves": [{"name": "none", "siteSelector": {"matchLabels": {"no": "one"}}}]},
    )
    fleet.hub.look()
    written = fleet.hub.look().orders
    assert [(write.site, write.reason, write.order.mode) for write in written] == [("a", "GoBack", "Direct")]


def test_sites_on_a_superseded_revision_go_to_the_last_good_one_when_the_newer_fails() -> None:
    fleet = served(TWO, rollout={"waves": [{"name": "canary", **CANARY, "soak": "1h"}]})
    fleet.hub.edit(bundle=bundle(2))
    fleet.go(6)
    fleet.fail(3, "a")
    fleet.hub.edit(bundle=bundle(3))
    fleet.go()
    assert fleet.hub.rollout(3)["status"]["outcome"] == "RolledBack"
    assert set(fleet.active().values()) == {fleet.hub.revision(1)}


def test_asking_for_the_current_good_revision_again_is_an_abort() -> None:
    fleet = served("ab", rollout={"waves": [{"name": "all", "maxConcurrency": 1}]})
    fleet.hub.edit(bundle=bundle(2))
    fleet.go(4)
    fleet.hub.edit(bundle=bundle(1))
    fleet.go()
    assert fleet.hub.rollout(2)["status"]["outcome"] == "Aborted"
    assert set(fleet.hub.rollouts) == {"digits-1", "digits-2"}
    assert set(fleet.active().values()) == {fleet.hub.revision(1)}
    assert fleet.hub.condition("Ready") == ("True", "Complete")


def test_going_to_a_revision_of_before_is_a_new_attempt_in_direct_mode() -> None:
    fleet = served("a")
    fleet.hub.edit(bundle=bundle(2))
    fleet.go()
    fleet.hub.edit(bundle=bundle(1))
    written = fleet.go()
    assert [(write.order.mode, write.order.attempt, write.order.replaces) for write in written] == [
        ("Direct", 2, bundle(2).rpartition("@")[2])
    ]
    assert fleet.hub.rollout(3)["spec"]["revision"] == fleet.hub.revision(1)
    assert fleet.hub.condition("Ready") == ("True", "Complete")


def test_aborting_a_completed_rollout_undoes_it() -> None:
    fleet = served("ab")
    fleet.hub.edit(bundle=bundle(2))
    fleet.go()
    fleet.hub.verb("digits-2", desired="Aborted")
    fleet.go()
    assert fleet.hub.rollout(2)["status"]["outcome"] == "Aborted"
    assert fleet.hub.condition("Stalled") == ("True", "Aborted")
    assert set(fleet.active().values()) == {fleet.hub.revision(1)}


def test_a_later_attempt_that_fails_bans_the_earlier_ones_too() -> None:
    fleet = served("ab")
    fleet.sites["b"].linked = False
    fleet.hub.tick(400)
    fleet.sites["a"].sync()
    fleet.hub.edit(bundle=bundle(2))
    fleet.go()
    fleet.hub.edit(bundle=bundle(1))
    fleet.go(3)
    assert fleet.ordered()["b"] == fleet.hub.revision(1), "b was away all the time"
    fleet.hub.verb("digits-3", desired="Aborted")
    fleet.go(3)
    assert set(fleet.ordered().values()) == {fleet.hub.revision(2)}
    fleet.sites["b"].linked = True
    fleet.go()
    assert set(fleet.active().values()) == {fleet.hub.revision(2)}


def test_the_first_revision_ever_fails_and_sites_that_serve_it_are_left_alone() -> None:
    fleet = world("ab", rollout={"waves": [{"name": "all", "maxConcurrency": 1}]})
    fleet.fail(1, "b")
    fleet.go(12)
    assert fleet.hub.condition("Stalled") == ("True", "RolledBack")
    assert "there is no good revision to go back to" in fleet.hub.message()
    assert {raw["spec"]["state"] for raw in fleet.hub.orders.values()} == {"Keep"}
    assert fleet.active()["a"] == fleet.hub.revision(1)
    fleet.hub.edit(bundle=bundle(2))
    fleet.go(12)
    assert set(fleet.active().values()) == {fleet.hub.revision(2)}


@pytest.mark.parametrize(
    ("check", "condition", "text"),
    [
        pytest.param(
            BundleCheck(bundle=bundle(1), ok=False, reason="Unsigned", message="no signature"),
            ("Stalled", "True", "BundleInvalid"),
            "Unsigned: no signature",
            id="unsigned",
        ),
        pytest.param(
            BundleCheck(
                bundle=bundle(1), ok=False, reason="RegistryUnreachable", message="no route", environment=True
            ),
            ("Reconciling", "True", "RegistryUnreachable"),
            "no route",
            id="registry away",
        ),
        pytest.param(
            BundleCheck(bundle=bundle(9), ok=True),
            ("Reconciling", "True", "Checking"),
            "being looked up",
            id="another bundle was checked",
        ),
        pytest.param(
            BundleCheck(bundle=bundle(1), ok=True, variants=("fp32",)),
            ("Stalled", "True", "BundleInvalid"),
            "spec.variants: the bundle has no variant 'int8', only fp32",
            id="no such variant",
        ),
    ],
)
def test_nothing_starts_without_a_good_bundle(
    check: BundleCheck, condition: tuple[str, str, str], text: str
) -> None:
    fleet = world("a", variants=["int8"])
    fleet.hub.check = check
    fleet.go(3)
    assert fleet.hub.rollouts == {}
    assert fleet.hub.condition(condition[0]) == condition[1:]
    assert text in fleet.hub.message()
    assert fleet.hub.condition("Accepted")[0] != "True"


def test_the_running_revision_is_offered_no_more_once_the_spec_asks_for_another_that_cannot_start() -> None:
    fleet = served("ab", rollout={"waves": [{"name": "all", "maxConcurrency": 1}]})
    fleet.hub.edit(bundle=bundle(2))
    fleet.go(2)
    fleet.hub.check = BundleCheck(bundle=bundle(3), ok=False, reason="Unsigned", message="no signature")
    fleet.hub.edit(bundle=bundle(3))
    assert fleet.go(6) == []
    assert fleet.hub.condition("Stalled") == ("True", "BundleInvalid")
    fleet.hub.edit(bundle=bundle(2))
    fleet.go(6)
    assert fleet.hub.condition("Ready") == ("True", "Complete")


def test_a_registry_that_goes_away_later_changes_nothing() -> None:
    fleet = served("a")
    fleet.hub.check = BundleCheck(bundle=bundle(1), ok=False, reason="RegistryUnreachable", environment=True)
    fleet.go(3)
    assert fleet.hub.condition("Accepted") == ("True", "BundleVerified")
    assert fleet.hub.condition("Ready") == ("True", "Complete")


def test_a_placement_without_sites_starts_nothing_and_says_so() -> None:
    fleet = world("a", placement={"siteSelector": {"matchLabels": {"no": "one"}}})
    fleet.go(3)
    assert fleet.hub.rollouts == {}
    assert fleet.hub.condition("Stalled") == ("True", "NoSitesMatch")


def test_numbers_go_on_after_the_model_was_deleted_and_made_again() -> None:
    fleet = served("a", deletionPolicy="Keep")
    model = fleet.hub.model or {}
    fleet.sites["a"].linked = False
    model["metadata"]["deletionTimestamp"] = "2026-01-31T12:00:00Z"
    fleet.go(3)
    assert fleet.hub.model is None
    fleet.hub.model = {
        **model,
        "metadata": {**model["metadata"], "uid": "model-2", "finalizers": []},
        "status": {},
    }
    del fleet.hub.model["metadata"]["deletionTimestamp"]
    fleet.sites["a"].linked = True
    fleet.go(8)
    assert set(fleet.hub.rollouts) == {"digits-2"}
    assert fleet.hub.rollout(2)["spec"]["attempt"] == 2
    assert fleet.hub.condition("Ready") == ("True", "Complete")


def test_ended_rollouts_that_nothing_names_are_forgotten() -> None:
    fleet = served("a", revisionHistoryLimit=1)
    for number in (2, 3, 4, 5):
        fleet.hub.edit(bundle=bundle(number))
        fleet.go(10)
    assert set(fleet.hub.rollouts) == {"digits-4", "digits-5"}


def test_a_rollout_that_an_order_or_a_refusal_names_is_kept() -> None:
    fleet = served("ab", revisionHistoryLimit=1, rollout={"waves": [{"name": "all", "maxFailures": 1}]})
    fleet.fail(2, "a")
    fleet.sites["b"].linked = False
    fleet.hub.tick(400)
    for number in (2, 3, 4, 5):
        fleet.hub.edit(bundle=bundle(number))
        fleet.go(10)
    assert "digits-1" in fleet.hub.rollouts, "b is ordered to run it"
    assert "digits-2" in fleet.hub.rollouts, "a refused it"
