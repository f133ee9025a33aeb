"""Objects are read once, at the door, and what is wrong is named by its path."""

from datetime import UTC, datetime
from typing import Any

import pytest
from edgefleet.core import parse
from edgefleet.core.order import Order
from edgefleet.core.seen import SpecError
from edgefleet.core.specs import DEFAULT_STEPS, ModelSpec, SiteSpec
from support.fleet import served
from support.hubs import agent_raw, bundle, lease_raw, model_raw, site_raw


def waves(*given: dict[str, Any]) -> dict[str, Any]:
    """A spec with these waves."""
    return {"rollout": {"waves": list(given)}}


def test_the_smallest_model_has_the_documented_defaults() -> None:
    spec = parse.model(model_raw()).spec
    assert isinstance(spec, ModelSpec)
    assert spec.canary.steps == DEFAULT_STEPS
    assert spec.canary.gates.min_golden == "95%"
    assert spec.serving.replicas == 1
    assert spec.rollout.failure_strategy == "RollbackAll"
    assert spec.deletion_policy == "Remove"
    assert spec.revision_history_limit == 5


def test_gates_alone_leave_the_default_steps() -> None:
    spec = parse.model(model_raw(canary={"gates": {"minGolden": "90%"}})).spec
    assert isinstance(spec, ModelSpec)
    assert spec.canary.steps == DEFAULT_STEPS


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        pytest.param({"bundle": 1}, "spec.bundle: expected `str`, got `int`", id="of the wrong type"),
        pytest.param(
            {"placement": {}}, "spec.placement: object missing required field `siteSelector`", id="missing"
        ),
        pytest.param({"colour": "red"}, "spec: object contains unknown field `colour`", id="not known"),
        pytest.param(
            {"bundle": "oci://r.example/a:v1"},
            "spec.bundle: 'oci://r.example/a:v1' must name a digest",
            id="a bundle by tag",
        ),
        pytest.param(
            waves({"name": "a", "soak": "5"}),
            "spec.rollout.waves[0].soak: '5' is not a duration",
            id="a soak without unit",
        ),
        pytest.param(
            waves({"name": "a", "limit": "5"}),
            "spec.rollout.waves[0].limit: '5' is not a share",
            id="a limit without percent sign",
        ),
        pytest.param(
            waves({"name": "a", "limit": 1}, {"name": "a"}),
            "spec.rollout.waves[1].name: 'a' is used twice",
            id="two waves of one name",
        ),
        pytest.param(
            waves({"name": "a"}, {"name": "b"}),
            "spec.rollout.waves[0]: only the last wave may have neither siteSelector nor limit",
            id="two waves that take the rest",
        ),
        pytest.param(
            waves({"name": "rest", "limit": 1}),
            "spec.rollout.waves[0].name: 'rest' is kept for the wave without siteSelector and limit",
            id="a wave named rest that is none",
        ),
        *(
            pytest.param({"rollout": {"cohorts": cohorts}}, f"spec.rollout.cohorts{message}", id=what)
            for what, cohorts, message in (
                (
                    "cohorts by nothing",
                    {"by": []},
                    ".by: must name at least one of arch, soc, firmware, variant",
                ),
                ("cohorts without by", {}, ": object missing required field `by`"),
                ("cohorts by one key twice", {"by": ["soc", "soc"]}, ".by[1]: 'soc' is named twice"),
                ("cohorts by no key", {"by": ["a b"]}, ".by[0]: 'a b' is neither one of"),
                ("cohorts of no site", {"by": ["a"], "minSites": 0}, ".minSites: 0 must be 1 or more"),
                (
                    "cohorts that fail a lot",
                    {"by": ["a"], "maxFailures": "2"},
                    ".maxFailures: '2' is not a share",
                ),
                (
                    "cohorts that never fail",
                    {"by": ["a"], "maxFailures": "100%"},
                    ".maxFailures: 100% would never",
                ),
                (
                    "cohorts that do what else",
                    {"by": ["a"], "onFailure": "Pause"},
                    ".onFailure: invalid enum value",
                ),
            )
        ),
        *(
            pytest.param({"rollout": {"rate": rate}}, f"spec.rollout.rate{message}", id=what)
            for what, rate, message in (
                ("a rate of what", {}, ": object missing required field `perMinute`"),
                ("a rate of nothing", {"perMinute": 0}, ".perMinute: 0 must be 1 or more"),
                ("a rate that shrinks", {"perMinute": 1, "factor": 0}, ".factor: 0 must be 1 or more"),
                ("a rate of no steps", {"perMinute": 1, "every": 0}, ".every: 0 must be 1 or more"),
                (
                    "a rate above its most",
                    {"perMinute": 2, "maxPerMinute": 1},
                    ".maxPerMinute: 1 must not be below",
                ),
                (
                    "steps without growth",
                    {"perMinute": 2, "factor": 1, "every": 3},
                    ": every and maxPerMinute must",
                ),
                (
                    "a most without growth",
                    {"perMinute": 2, "factor": 1, "maxPerMinute": 9},
                    ": every and maxPer",
                ),
            )
        ),
        pytest.param(
            {"canary": {"steps": [{"shadow": 1, "weight": 1, "duration": "1m"}]}},
            "spec.canary.steps[0]: must have exactly one of shadow and weight",
            id="a step of two kinds",
        ),
        pytest.param(
            {"canary": {"gates": {"maxP99": "fast"}}},
            "spec.canary.gates.maxP99: 'fast' is not a duration",
            id="a gate that is no duration",
        ),
        pytest.param(
            {"placement": {"siteSelector": {"matchExpressions": [{"key": "a", "operator": "In"}]}}},
            "spec.placement.siteSelector.matchExpressions[0].values: In and NotIn need values",
            id="In without values",
        ),
    ],
)
def test_a_model_that_cannot_be_read_names_the_field(spec: dict[str, Any], message: str) -> None:
    raw = model_raw()
    raw["spec"] |= spec
    found = parse.model(raw).spec
    assert isinstance(found, SpecError)
    assert found.message.startswith(message)


def test_a_name_too_long_for_a_site_is_refused() -> None:
    raw = model_raw()
    raw["metadata"]["name"] = "d" * 34
    found = parse.model(raw).spec
    assert isinstance(found, SpecError)
    assert "has 41 characters, at most 40" in found.message


def test_an_invalid_spec_stalls_the_model_and_touches_nothing_else() -> None:
    fleet = served("a")
    fleet.hub.edit(rollout={"waves": [{"name": "a", "soak": "5"}]})
    decision = fleet.hub.look()
    assert (decision.orders, decision.patch_rollouts, decision.create_rollouts) == ((), (), ())
    assert fleet.hub.condition("Stalled") == ("True", "InvalidSpec")
    assert fleet.hub.condition("Accepted") == ("False", "InvalidSpec")
    assert "spec.rollout.waves[0].soak" in fleet.hub.message()
    assert (fleet.hub.model or {})["status"]["currentRevision"] == fleet.hub.revision(1), (
        "what was known stays"
    )


def test_an_order_and_its_report_are_read_as_they_were_written() -> None:
    fleet = served("a")
    found = parse.deployment(fleet.hub.orders["a"])
    assert found.site == "a"
    assert isinstance(found.order, Order)
    assert found.order.bundle == bundle(1)
    assert found.report.order is not None
    assert found.report.stage == "Serving"


def test_a_report_of_a_newer_agent_is_read_without_what_is_new() -> None:
    raw = served("a").hub.orders["a"]
    raw["status"] |= {"stage": "Levitating", "fromTheFuture": 1}
    assert parse.deployment(raw).report.stage == "Levitating"


def test_a_report_that_is_nonsense_says_nothing() -> None:
    raw = served("a").hub.orders["a"]
    raw["status"] = {"refused": "everything", "stage": "Serving"}
    assert parse.deployment(raw).report.stage == ""


def test_the_hub_believes_its_own_clock_not_the_sites() -> None:
    heard, renewed = datetime(2026, 1, 31, tzinfo=UTC), datetime(2099, 1, 1, tzinfo=UTC)
    lease = parse.heartbeat(lease_raw(heard, renewed))
    assert (lease.heard, lease.renewed) == (heard, renewed)


def test_what_others_write_to_a_lease_is_no_beat() -> None:
    raw = lease_raw(datetime(2026, 1, 31, tzinfo=UTC))
    raw["metadata"]["managedFields"][0]["manager"] = "edgefleet-operator"
    assert parse.heartbeat(raw).heard is None


def test_nonsense_for_a_time_of_the_site_is_no_time() -> None:
    raw = lease_raw(None)
    raw["spec"]["renewTime"] = "soon"
    assert parse.heartbeat(raw).renewed is None


def test_a_site_comes_with_its_lease_and_agent() -> None:
    found = parse.site(site_raw("paris", {"country": "fr"}), lease_raw(None), agent_raw())
    assert found.spec == SiteSpec()
    assert found.agent is not None
    assert found.agent.status.understands == (1,)
    assert found.meta.labels == {"country": "fr"}


def test_a_site_with_a_bad_heartbeat_is_named() -> None:
    found = parse.site(site_raw("paris", heartbeat={"interval": "often"})).spec
    assert found == SpecError(
        "spec.heartbeat.interval: 'often' is not a duration: write it like 50ms, 90s, 5m or 1h30m"
    )


def test_a_rollout_that_cannot_be_read_is_none() -> None:
    raw = served("a").hub.rollout(1)
    assert parse.rollout(raw) is not None
    raw["spec"]["attempt"] = "first"
    assert parse.rollout(raw) is None


@pytest.mark.parametrize(("label", "ours"), [("paris", True), ("london", False), (None, False)])
def test_a_namespace_is_ours_only_with_the_sites_label(label: str | None, ours: bool) -> None:
    labels = {} if label is None else {"edgefleet.dev/site": label}
    assert parse.namespace({"metadata": {"name": "site-paris", "labels": labels}}, "paris").ours is ours
