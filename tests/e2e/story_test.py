"""What `make demo` must have shown: read from its report and from the clusters it left."""

import re

import pytest
from support.clusters import Told

from demo.cluster import condition
from demo.story import MODEL, NAMESPACE, edge_model

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(2400)]

STEPS = ("v1", "v2", "v3", "v4")


def test_each_step_ends_as_told(told: Told) -> None:
    assert [(step["name"], step["outcome"]) for step in told.report["steps"]] == [
        ("v1", "Promoted"),
        ("v2", "Promoted"),
        ("v3", "RolledBack"),
        ("v4", "RolledBack"),
    ]


@pytest.mark.parametrize("name", STEPS)
def test_no_caller_sees_a_failed_request(told: Told, name: str) -> None:
    requests = told.step(name)["requests"]
    assert requests["failed"] == 0
    assert requests["sent"] > 0


def test_both_sites_run_each_promoted_bundle_quantized(told: Told) -> None:
    for name in ("v1", "v2"):
        sites = told.step(name)["sites"].values()
        assert len(sites) == 2
        assert len({site["digest"] for site in sites}) == 1
        assert {site["variant"] for site in sites} == {"int8"}


def test_after_a_rollback_every_site_is_on_the_bundle_it_was_on(told: Told) -> None:
    good = told.step("v2")["sites"]
    assert told.step("v1")["sites"] != good
    assert told.step("v3")["sites"] == good
    assert told.step("v4")["sites"] == good


def test_the_reasons_tell_a_failed_self_test_from_failed_traffic(told: Told) -> None:
    v3, v4 = told.step("v3")["reason"], told.step("v4")["reason"]
    assert v3.startswith("RolledBack")
    assert v4.startswith("RolledBack")
    assert "GoldenDisagrees" in v3
    assert "GoldenDisagrees" not in v4
    assert "ErrorRate" in v4


@pytest.mark.parametrize("name", ["v3", "v4"])
def test_the_reason_names_what_failed_and_what_serves_again(told: Told, name: str) -> None:
    named = set(re.findall(r"sha256:[0-9a-f]{64}", told.step(name)["reason"]))
    good = told.step("v2")["sites"][told.canary_site]["digest"]
    assert good in named
    assert len(named) == 2


def test_outputs_shrink_and_models_cross_the_link(told: Told) -> None:
    for name in STEPS:
        counted = told.step(name)["bytes"]
        assert 0 < counted["after_lz4"] < counted["before_lz4"] * 0.5
        assert counted["pulled"] > 0


@pytest.mark.parametrize("name", STEPS)
def test_each_step_says_how_long_it_took(told: Told, name: str) -> None:
    assert told.step(name)["seconds"] > 0


def test_memory_is_measured(told: Told) -> None:
    assert all(value > 0 for value in told.report["memory_mib"].values())


def test_the_model_is_stalled_with_both_digests_and_its_spec_is_left_alone(told: Told) -> None:
    model = told.fleet.hub.get(f"/apis/edgefleet.dev/v1alpha1/namespaces/{NAMESPACE}/edgemodels/{MODEL}")
    stalled = condition(model, "Stalled")
    good = told.step("v2")["sites"][told.canary_site]["digest"]
    bad = model["spec"]["bundle"].partition("@")[2]
    assert stalled["status"] == "True"
    assert stalled["reason"] == "RolledBack"
    assert good in stalled["message"]
    assert bad in stalled["message"]
    assert good != bad
    writers = {each["manager"] for each in model["metadata"]["managedFields"] if "f:spec" in each["fieldsV1"]}
    assert not any(writer.startswith("edgefleet") for writer in writers)


def test_the_four_rollouts_say_how_they_ended(told: Told) -> None:
    rollouts = told.fleet.hub.items("edgerollouts", NAMESPACE)
    ends = sorted((item["metadata"]["name"], item["status"]["outcome"]) for item in rollouts)
    assert [outcome for _, outcome in ends] == ["Complete", "Complete", "RolledBack", "RolledBack"]


def test_the_dashboard_of_the_readme_shows_every_kind(told: Told) -> None:
    shown = told.fleet.hub.kubectl("get", "efm,efs,efr,efd,efa", "-A")
    for kind in ("edgemodel", "edgesite", "edgerollout", "edgedeployment", "edgeagent"):
        assert f"{kind}.edgefleet.dev/" in shown


def test_kubectl_wait_sees_a_good_model_ready_again(told: Told) -> None:
    name = told.new_bundle("v2")
    told.fleet.hub.apply(edge_model(told.story.bundles[name]))
    told.fleet.hub.kubectl(
        "wait", "--for=condition=Ready", f"edgemodel/{MODEL}", "-n", NAMESPACE, "--timeout=90s"
    )
    told.story.until("both sites serve it", lambda now: now.all_serve(told.story.bundles[name].digest))


def test_what_the_demo_printed_names_its_report_and_the_way_out(told: Told) -> None:
    assert "build/demo-report.json" in told.output
    assert "make demo-down" in told.output
