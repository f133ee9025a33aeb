"""A revision that fails on one kind of hardware is withheld from that kind, and goes on elsewhere."""

from typing import Any

import pytest
from edgefleet.core import model_pass
from support.fleet import Site, World, served, world
from support.hubs import Raw, bundle, shuffled

ONE_WAVE = {"waves": [{"name": "all", "maxConcurrency": 100}]}


def by(*keys: str, **more: Any) -> dict[str, Any]:
    """`spec.rollout` with one wave and cohorts by these keys."""
    return {**ONE_WAVE, "cohorts": {"by": list(keys), **more}}


def kinds(**counts: int) -> dict[str, dict[str, str]]:
    """Sites by name with their label `soc`: so many of each."""
    return {f"{soc}{n}": {"soc": soc} for soc, count in counts.items() for n in range(count)}


def fleet_of(policy: dict[str, Any], bad: str = "x", **counts: int) -> World:
    """Bundle 1 serves everywhere; bundle 2, which fails on one SoC unless `bad` is empty, is applied."""
    fleet = served(kinds(**counts))
    if bad:
        fleet.fail(2, *(name for name in fleet.sites if name.startswith(bad)))
    fleet.hub.edit(bundle=bundle(2), rollout=policy)
    return fleet


def until_failed(of: World, count: int) -> None:
    """Go on until so many sites have failed with bundle 2."""
    for _ in range(30):
        of.go(1)
        if of.hub.rollouts.get("digits-2", {"status": {}})["status"].get("counts", {}).get("failed") == count:
            return
    raise AssertionError(f"never {count} failures: {of.hub.rollout(2)['status']}")


def holds(of: World, number: int = 2) -> dict[str, Raw]:
    """Holds of a rollout by cohort."""
    return {item["cohort"]: item for item in of.hub.rollout(number)["status"].get("holds", ())}


def on(of: World, number: int) -> set[str]:
    """Sites on which the revision of a rollout serves."""
    return {name for name, active in of.active().items() if active == of.hub.revision(number)}


def test_a_bad_minority_is_held_and_the_rest_of_the_fleet_goes_on() -> None:
    fleet = fleet_of(by("soc"), x=3, y=9)
    fleet.go(12)
    assert holds(fleet).keys() == {"soc=x"}
    assert on(fleet, 2) == {f"y{n}" for n in range(9)}
    assert on(fleet, 1) == {f"x{n}" for n in range(3)}
    assert fleet.hub.condition("Ready") == ("True", "Complete")
    assert "CohortHeld: soc=x (3 sites)" in fleet.hub.message()
    status = fleet.hub.rollout(2)["status"]
    assert status["outcome"] == "Complete"
    assert (status["counts"]["failed"], status["counts"]["held"]) == (3, 3)
    (wave,) = status["waves"]
    assert (wave["failed"], wave["held"], wave["healthy"]) == (3, 3, 9)
    assert fleet.hub.model is not None
    assert fleet.hub.model["status"]["sites"]["held"] == 3
    assert "CohortHeld" in next(c["message"] for c in status["conditions"] if c["type"] == "Ready")


def test_without_cohorts_the_same_failures_take_everybody_back() -> None:
    fleet = fleet_of(ONE_WAVE, x=3, y=9)
    fleet.go(12)
    assert fleet.hub.rollout(2)["status"]["outcome"] == "RolledBack"


def test_a_hold_says_which_cohort_how_many_failed_and_why() -> None:
    fleet = fleet_of(by("soc"), x=3, y=9)
    fleet.go(12)
    hold = holds(fleet)["soc=x"]
    assert (hold["failed"], hold["seen"]) == (3, 3)
    assert hold["message"].startswith("3 of 3 sites failed, first x0 with GoldenDisagrees: 12 %")
    assert {tuple(item["cohorts"]) for item in fleet.hub.rollout(2)["status"]["failures"]} == {("soc=x",)}


def test_sites_of_a_held_cohort_go_back_at_once_whether_at_work_or_healthy_or_away() -> None:
    fleet = fleet_of(by("soc"), bad="", x=5, y=12)
    fleet.fail(2, "x0", "x1")
    fleet.sites["x3"].steps = 1000  # still at work
    fleet.go(3)
    fleet.sites["x4"].linked = False
    fleet.sites["x4"].steps = 1000
    fleet.go(4)
    assert holds(fleet).keys() == {"soc=x"}
    assert {fleet.ordered()[f"x{n}"] for n in range(5)} == {fleet.hub.revision(1)}
    modes = {fleet.hub.orders[f"x{n}"]["spec"]["mode"] for n in range(5)}
    assert modes == {"Direct"}, "nobody is judged by the model it leaves"
    fleet.sites["x4"].linked = True
    fleet.sites["x3"].steps = fleet.sites["x4"].steps = 2
    fleet.go(8)
    assert on(fleet, 1) == {f"x{n}" for n in range(5)}
    assert fleet.hub.condition("Ready") == ("True", "Complete")


@pytest.mark.parametrize(
    ("policy", "failing", "held"),
    [
        pytest.param(by("soc"), 1, False, id="one-failure-says-nothing-about-its-kind"),
        pytest.param(by("soc"), 2, True, id="two-of-five-are-more-than-a-fifth"),
        pytest.param(by("soc", maxFailures="40%"), 2, False, id="two-of-five-are-no-more-than-two-fifths"),
        pytest.param(by("soc", maxFailures=2), 2, False, id="no-more-than-a-count"),
        pytest.param(by("soc", maxFailures=2), 3, True, id="more-than-a-count"),
        pytest.param(by("soc", minSites=6), 5, False, id="fewer-than-minSites-are-seen"),
        pytest.param(by("soc", minSites=5), 5, True, id="minSites-are-seen"),
        pytest.param(by("soc", minSites=1, maxFailures=0), 1, False, id="never-by-one-failure"),
        pytest.param(by("other"), 5, False, id="another-key"),
    ],
)
def test_a_hold_needs_two_failures_enough_sites_and_too_large_a_share(
    policy: dict[str, Any], failing: int, *, held: bool
) -> None:
    fleet = fleet_of(policy, bad="", x=5, y=9)
    fleet.fail(2, *(f"x{n}" for n in range(failing)))
    fleet.go(14)
    assert (holds(fleet).keys() == {"soc=x"}) == held
    assert fleet.hub.rollout(2)["status"]["outcome"] == ("Complete" if held else "RolledBack")


def test_a_failure_waits_for_the_judgement_of_its_cohort_no_longer_than_evidence_may_come() -> None:
    policy = {"waves": [{"name": "all", "maxConcurrency": 1}], "cohorts": {"by": ["soc"]}}
    fleet = fleet_of(policy, bad="", x=3, y=9)
    fleet.fail(2, "x0")
    until_failed(fleet, 1)
    assert fleet.hub.condition("Reconciling") == ("True", "WaveRunning"), "two more of its kind are to come"
    fleet.go(30)
    assert holds(fleet) == {}
    assert fleet.hub.rollout(2)["status"]["outcome"] == "RolledBack", (
        "they are fine: it was no matter of its kind"
    )


@pytest.mark.parametrize("label", ["serial", "soc"])
def test_a_cohort_that_cannot_be_held_keeps_no_failure_from_its_wave(label: str) -> None:
    fleet = served({f"s{n}": {"soc": "x", "serial": str(n)} for n in range(12)})
    fleet.fail(2, "s0")
    policy = {"waves": [{"name": "all", "maxConcurrency": 1}], "cohorts": {"by": [label]}}
    fleet.hub.edit(bundle=bundle(2), rollout=policy)
    fleet.go(8)
    assert fleet.hub.rollout(2)["status"]["outcome"] == "RolledBack", "at its first failure"
    assert on(fleet, 2) == set()


@pytest.mark.parametrize("x", [6, 7, 12])
def test_a_majority_is_not_held_the_revision_is_bad(x: int) -> None:
    fleet = fleet_of(by("soc"), x=x, y=12 - x)
    fleet.go(14)
    outcome = fleet.hub.rollout(2)["status"]["outcome"]
    assert outcome == ("Complete" if x == 6 else "RolledBack"), "half is held, more is not"
    assert (holds(fleet) != {}) == (x == 6)
    assert on(fleet, 1) == ({f"x{n}" for n in range(6)} if x == 6 else set(fleet.sites))


def test_minorities_that_together_are_a_majority_take_everybody_back() -> None:
    fleet = served(kinds(x=4, y=5, z=3))
    fleet.fail(2, *(name for name in fleet.sites if name[0] in "xy"))
    fleet.hub.edit(bundle=bundle(2), rollout=by("soc"))
    fleet.sites["y0"].steps = fleet.sites["y1"].steps = fleet.sites["y2"].steps = 9
    fleet.go(7)
    assert holds(fleet).keys() == {"soc=x"}, "the first"
    fleet.go(12)
    assert fleet.hub.rollout(2)["status"]["outcome"] == "RolledBack"
    assert holds(fleet).keys() == {"soc=x"}, "remembered"
    assert on(fleet, 1) == set(fleet.sites)


def test_several_cohorts_are_held_side_by_side() -> None:
    fleet = served(kinds(x=3, y=3, z=9))
    fleet.fail(2, *(name for name in fleet.sites if name[0] in "xy"))
    fleet.hub.edit(bundle=bundle(2), rollout=by("soc"))
    fleet.go(12)
    assert holds(fleet).keys() == {"soc=x", "soc=y"}
    assert on(fleet, 2) == {f"z{n}" for n in range(9)}
    assert fleet.hub.condition("Ready") == ("True", "Complete")
    assert "soc=x, soc=y (6 sites)" in fleet.hub.message()


def test_failures_one_cohort_accounts_for_do_not_hold_a_larger_one() -> None:
    """Three sites of one SoC, all with a firmware that most of the fleet has."""
    labels = {f"x{n}": {"soc": "x", "firmware": "1"} for n in range(3)}
    labels |= {f"y{n}": {"soc": "y", "firmware": "1"} for n in range(2)}
    labels |= {f"z{n}": {"soc": "z", "firmware": "2"} for n in range(9)}
    fleet = served(labels)
    fleet.fail(2, "x0", "x1", "x2")
    fleet.hub.edit(bundle=bundle(2), rollout=by("firmware", "soc"))
    fleet.go(12)
    assert holds(fleet).keys() == {"soc=x"}
    assert {"y0", "y1"} <= on(fleet, 2)


def test_a_cohort_that_fails_beyond_what_another_accounts_for_is_held_too() -> None:
    labels = {f"x{n}": {"soc": "x", "firmware": "1"} for n in range(3)}
    labels |= {f"y{n}": {"soc": "y", "firmware": "1"} for n in range(3)}
    labels |= {f"z{n}": {"soc": "z", "firmware": "2"} for n in range(9)}
    fleet = served(labels)
    fleet.fail(2, *(name for name in labels if name[0] in "xy"))
    fleet.hub.edit(bundle=bundle(2), rollout=by("firmware", "soc", minSites=4))
    fleet.go(12)
    assert holds(fleet).keys() == {"firmware=1"}, "of the SoCs too few are seen"
    assert on(fleet, 2) == {f"z{n}" for n in range(9)}


@pytest.mark.parametrize("gone", ["deleted", "relabelled"])
def test_a_site_that_is_deleted_or_relabelled_takes_no_failure_with_it(gone: str) -> None:
    policy = {"waves": [{"name": "all", "maxConcurrency": 1}], "cohorts": {"by": ["soc"]}}
    fleet = fleet_of(policy, x=4, y=9)
    until_failed(fleet, 1)
    if gone == "deleted":
        del fleet.hub.sites["x0"]
    else:
        fleet.hub.sites["x0"]["metadata"]["labels"] = {"soc": "y"}
    fleet.go(40)
    assert (holds(fleet)["soc=x"]["failed"], holds(fleet)["soc=x"]["seen"]) == (3, 3), "x0 is one of them"
    assert fleet.hub.rollout(2)["status"]["counts"]["failed"] == 3


def test_a_hold_is_of_what_a_site_is_now() -> None:
    fleet = fleet_of(by("soc"), x=3, y=9)
    fleet.fail(2, "y8")
    fleet.sites["y8"].linked = False
    fleet.hub.tick(400)
    for name in set(fleet.sites) - {"y8"}:
        fleet.sites[name].sync()
    fleet.go(12)
    assert holds(fleet).keys() == {"soc=x"}
    fleet.hub.sites["y0"]["metadata"]["labels"] = {"soc": "x"}
    fleet.go(6)
    assert "y0" in on(fleet, 1), "relabelled into it"
    fleet.hub.sites["y0"]["metadata"]["labels"] = {"soc": "y"}
    fleet.go(6)
    assert "y0" in on(fleet, 2), "and out of it"
    fleet.hub.sites["x0"]["metadata"]["labels"] = {"soc": "y"}
    fleet.go(6)
    assert "x0" in on(fleet, 1), "its own refusal stays"
    assert holds(fleet)["soc=x"]["failed"] == 3


def test_a_hold_outlives_its_policy_and_ends_with_the_revision() -> None:
    fleet = fleet_of(by("soc"), x=3, y=9)
    fleet.go(12)
    fleet.hub.edit(rollout=ONE_WAVE)
    fleet.go(6)
    assert holds(fleet).keys() == {"soc=x"}
    assert on(fleet, 1) == {"x0", "x1", "x2"}
    fleet.hub.edit(bundle=bundle(3), rollout=by("soc"))
    fleet.go(12)
    assert holds(fleet, 3) == {}
    assert on(fleet, 3) == set(fleet.sites)
    assert fleet.hub.condition("Ready") == ("True", "Complete")


def test_a_held_cohort_goes_back_to_what_was_good_there_when_the_next_revision_fails() -> None:
    fleet = fleet_of(by("soc"), x=3, y=9)
    fleet.go(12)
    fleet.fail(3)
    fleet.hub.edit(bundle=bundle(3), rollout=ONE_WAVE)
    fleet.go(14)
    assert fleet.hub.rollout(3)["status"]["outcome"] == "RolledBack"
    assert on(fleet, 1) == {"x0", "x1", "x2"}
    assert on(fleet, 2) == {f"y{n}" for n in range(9)}


def test_new_and_returning_sites_of_a_held_cohort_are_not_offered_the_revision() -> None:
    fleet = fleet_of(by("soc"), x=4, y=9)
    fleet.sites["x3"].linked = False
    fleet.hub.tick(400)
    for name in set(fleet.sites) - {"x3"}:
        fleet.sites[name].sync()
    fleet.go(12)
    assert holds(fleet).keys() == {"soc=x"}
    fleet.sites["x3"].linked = True
    fleet.hub.join("x4", {"soc": "x"})
    fleet.hub.join("y9", {"soc": "y"})
    for name in ("x4", "y9"):
        fleet.sites[name] = Site(name, fleet.hub)
    fleet.go(8)
    assert on(fleet, 1) == {f"x{n}" for n in range(5)}, "the new one gets what is good for its kind"
    assert "y9" in on(fleet, 2)
    assert fleet.hub.model is not None
    assert fleet.hub.model["status"]["sites"]["held"] == 5


def test_a_kind_that_only_joins_later_is_held_while_it_catches_up() -> None:
    policy = {"waves": [{"name": "all", "maxFailures": 3}], "cohorts": {"by": ["soc"]}}
    fleet = served(kinds(y=12), rollout=policy)
    fleet.hub.edit(bundle=bundle(2))
    fleet.go(10)
    for n in range(4):
        fleet.hub.join(f"x{n}", {"soc": "x"})
        fleet.sites[f"x{n}"] = Site(f"x{n}", fleet.hub, bad={bundle(2)})
    fleet.go(10)
    assert holds(fleet).keys() == {"soc=x"}
    assert on(fleet, 1) == {f"x{n}" for n in range(4)}
    assert fleet.hub.condition("Ready") == ("True", "Complete"), "the breaker does not count them"


def test_a_first_wave_of_which_all_is_held_holds_and_names_who_must_act() -> None:
    lab = {"name": "lab", "siteSelector": {"matchLabels": {"soc": "x"}}}
    fleet = fleet_of({"waves": [lab], "cohorts": {"by": ["soc"]}}, x=3, y=9)
    fleet.go(12)
    assert fleet.hub.condition("Stalled") == ("True", "CohortHeld")
    assert "wave lab: all that is left of it is held, soc=x (3 sites)" in fleet.hub.message()
    assert on(fleet, 2) == set(), "one kind's failure is no proof that the others succeed"
    fleet.hub.edit(rollout={"waves": [{"name": "rest"}], "cohorts": {"by": ["soc"]}})
    fleet.go(10)
    assert fleet.hub.condition("Ready") == ("True", "Complete")
    assert on(fleet, 2) == {f"y{n}" for n in range(9)}


def test_a_later_wave_of_which_all_is_held_is_over() -> None:
    lab = {"name": "lab", "siteSelector": {"matchLabels": {"soc": "y"}}}
    fleet = fleet_of({"waves": [lab], "cohorts": {"by": ["soc"]}}, x=3, y=9)
    fleet.go(16)
    assert fleet.hub.condition("Ready") == ("True", "Complete")
    assert "CohortHeld: soc=x" in fleet.hub.message()
    assert [w["name"] for w in fleet.hub.rollout(2)["status"]["waves"]] == ["lab", "rest"]


def test_held_sites_are_outside_the_waves_expected_number() -> None:
    policy = by("soc")
    policy["waves"] = [{"name": "all", "minSuccess": "100%"}]
    fleet = fleet_of(policy, x=4, y=9)
    fleet.go(14)
    assert fleet.hub.condition("Ready") == ("True", "Complete"), "nine of nine"


def test_with_nothing_good_a_held_cohort_keeps_what_it_has() -> None:
    fleet = world(kinds(x=3, y=9), rollout=by("soc"))
    fleet.fail(1, "x0", "x1", "x2")
    fleet.go(14)
    assert holds(fleet, 1).keys() == {"soc=x"}
    assert {fleet.hub.orders[f"x{n}"]["spec"]["state"] for n in range(3)} == {"Keep"}
    assert fleet.hub.condition("Ready") == ("True", "Complete")


def test_finish_frees_no_cohort() -> None:
    fleet = fleet_of(by("soc"), x=4, y=9)
    fleet.go(6)
    fleet.hub.verb("digits-2", finish=True)
    fleet.go(10)
    assert on(fleet, 1) == {f"x{n}" for n in range(4)}


FACTS = {"arch": "arm64", "soc": "rk3588", "firmware": "2026.01"}


@pytest.mark.parametrize("key", sorted(FACTS))
def test_a_fact_of_the_inventory_makes_cohorts(key: str) -> None:
    fleet = served({f"y{n}": {} for n in range(9)})
    for n in range(3):
        fleet.hub.join(f"x{n}", inventory=FACTS)
        fleet.sites[f"x{n}"] = Site(f"x{n}", fleet.hub, bad={bundle(2)})
    fleet.go(8)
    fleet.hub.edit(bundle=bundle(2), rollout=by(key))
    fleet.go(12)
    assert holds(fleet).keys() == {f"{key}={FACTS[key]}"}
    assert on(fleet, 2) == {f"y{n}" for n in range(9)}


def test_a_label_wins_over_the_fact_of_its_name_and_an_empty_one_means_no_cohort() -> None:
    fleet = served({f"y{n}": {} for n in range(12)})
    for n in range(4):
        fleet.hub.join(f"x{n}", {"soc": "mine" if n < 3 else ""}, inventory=FACTS)
        fleet.sites[f"x{n}"] = Site(f"x{n}", fleet.hub, bad={bundle(2)} if n < 3 else set())
    fleet.go(8)
    fleet.hub.edit(bundle=bundle(2), rollout=by("soc"))
    fleet.go(12)
    assert holds(fleet).keys() == {"soc=mine"}
    assert "x3" in on(fleet, 2)


def test_a_variant_makes_cohorts_and_who_left_it_is_not_offered_it_on_the_variant_it_went_back_to() -> None:
    fleet = served(kinds(x=4, y=9))
    for name, site in fleet.sites.items():
        site.variants = {bundle(1): "fp32", bundle(2): "int8" if name[0] == "x" else "fp32"}
        site.sync()
    fleet.fail(2, "x0", "x1")
    fleet.hub.edit(bundle=bundle(2), rollout=by("variant"))
    fleet.go(30)
    assert holds(fleet).keys() == {"variant=int8"}
    assert on(fleet, 1) == {f"x{n}" for n in range(4)}
    assert fleet.hub.condition("Ready") == ("True", "Complete")
    before = {name: raw["metadata"]["generation"] for name, raw in fleet.hub.orders.items()}
    fleet.go(20)
    assert before == {name: raw["metadata"]["generation"] for name, raw in fleet.hub.orders.items()}


def test_keys_that_come_later_find_the_failures_of_before() -> None:
    policy = {"waves": [{"name": "all", "maxFailures": 9}], "cohorts": {"by": ["other"]}}
    fleet = fleet_of(policy, x=3, y=9)
    fleet.sites["y8"].steps = 1000
    fleet.go(8)
    assert holds(fleet) == {}
    fleet.hub.edit(rollout=by("other", "soc"))
    fleet.go(3)
    assert holds(fleet).keys() == {"soc=x"}


def test_a_fleet_of_many_failures_holds_its_cohort_also_beyond_what_is_listed() -> None:
    wide = {"waves": [{"name": "all", "maxConcurrency": 600}], "cohorts": {"by": ["soc"]}}
    fleet = served({f"s{n:03}": {"soc": "x" if n < 210 else "y"} for n in range(430)}, rollout=wide)
    fleet.fail(2, *(f"s{n:03}" for n in range(210)))
    fleet.hub.edit(bundle=bundle(2))
    fleet.go(8)
    status = fleet.hub.rollout(2)["status"]
    assert len(status["failures"]) == 200
    assert (status["counts"]["failed"], status["waves"][0]["held"]) == (210, 210)
    assert (status["holds"][0]["failed"], status["holds"][0]["seen"]) == (210, 210)
    assert status["outcome"] == "Complete"


def test_the_order_in_which_things_are_seen_holds_nothing_else() -> None:
    fleet = fleet_of(by("soc"), x=3, y=9)
    fleet.go(5)
    for seed in range(5):
        seen = fleet.hub.seen()
        assert model_pass.decide_model(shuffled(seen, seed), fleet.hub.now) == fleet.hub.decide()


@pytest.mark.parametrize("strategy", ["RollbackAll", "Pause"])
def test_a_wave_that_would_be_over_waits_for_no_cohort_any_more(strategy: str) -> None:
    policy = {
        "waves": [{"name": "half", "limit": 9}],
        "cohorts": {"by": ["soc"]},
        "failureStrategy": strategy,
    }
    fleet = fleet_of(policy, bad="", x=4, y=9)
    fleet.fail(2, "x0")
    for name in ("x1", "x2", "x3"):
        fleet.sites[name].linked = False
    fleet.go(4)
    fleet.hub.tick(300)
    for name in fleet.sites:
        fleet.sites[name].sync()
    fleet.go(3)
    assert fleet.hub.rollout(2)["status"]["outcome"] == "", "three of its kind have not answered yet"
    fleet.hub.tick(100)
    for name in fleet.sites:
        fleet.sites[name].sync()
    fleet.go(6)
    if strategy == "Pause":
        assert fleet.hub.condition("Stalled") == ("True", "MaxFailuresExceeded")
        assert "completedAt" not in fleet.hub.rollout(2)["status"]["waves"][0]
        assert len(fleet.hub.rollout(2)["status"]["waves"]) == 1
    else:
        assert fleet.hub.rollout(2)["status"]["outcome"] == "RolledBack"


def test_silence_makes_no_share_of_failures_too_large() -> None:
    fleet = fleet_of(by("soc"), bad="", x=15, y=20)
    fleet.fail(2, "x0", "x1", "x2")
    fleet.sites["y0"].steps = 1000
    fleet.hub.edit(rollout={"waves": [{"name": "all", "maxFailures": 3}], "cohorts": {"by": ["soc"]}})
    fleet.go(8)
    assert holds(fleet) == {}, "three of fifteen are a fifth"
    fleet.hub.tick(4000)
    fleet.hub.look()
    assert fleet.hub.condition("Reconciling")[0] == "True"
    assert holds(fleet) == {}, "though nobody is heard who could say that it serves"


def test_once_no_minority_is_left_failures_that_were_held_count_too() -> None:
    fleet = served(kinds(x=4, y=5, z=3))
    fleet.fail(2, *(name for name in fleet.sites if name[0] in "xy"))
    policy = {"waves": [{"name": "all", "maxFailures": 6}], "cohorts": {"by": ["soc"]}}
    fleet.hub.edit(bundle=bundle(2), rollout=policy)
    fleet.go(16)
    assert fleet.hub.rollout(2)["status"]["outcome"] == "RolledBack", "nine of twelve; five alone might"


def test_what_a_hold_has_seen_does_not_fall_when_its_healthy_sites_go_back() -> None:
    fleet = fleet_of(by("soc"), bad="", x=5, y=9)
    fleet.fail(2, "x0", "x1")
    fleet.go(14)
    assert on(fleet, 1) == {f"x{n}" for n in range(5)}
    assert (holds(fleet)["soc=x"]["failed"], holds(fleet)["soc=x"]["seen"]) == (2, 5)


def test_going_back_from_a_held_revision_is_direct_also_where_nobody_remembers_what_was_before() -> None:
    fleet = fleet_of(by("soc"), bad="", x=5, y=9)
    fleet.fail(2, "x0", "x1")
    fleet.sites["x0"].steps = fleet.sites["x1"].steps = 6
    for _ in range(12):
        fleet.go(1)
        if "x4" in on(fleet, 2):
            fleet.sites["x4"].previous = ""
    assert holds(fleet).keys() == {"soc=x"}
    assert fleet.ordered()["x4"] == fleet.hub.revision(1)
    assert fleet.hub.orders["x4"]["spec"]["mode"] == "Direct"
