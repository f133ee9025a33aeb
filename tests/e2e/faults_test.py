"""Models that pass their self-test and fail in use: each ends on the revision before it, and no caller notices.

The faults are in the models (demo/faulty.py), the pods, the callers and the hub are real.
"""

import copy
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pytest
from support.clusters import Told, scratch

from demo import faulty
from demo.fleet import MODELS
from demo.story import MODEL, NAMESPACE, edge_model
from demo.watching import Picture

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

SENT = {"steps": [{"weight": 20, "duration": "2m"}], "gates": {"maxErrorRate": "20%", "minRequests": 10}}
"""Longer than any fault takes to show: it has to be a gate that ends the step."""


@dataclass(frozen=True)
class Fault:
    """How a fault is caught: the canary it meets, and the reasons it may be given."""

    canary: Mapping[str, Any]
    reasons: tuple[str, ...]


FAULTS = {
    "errors": Fault(SENT, ("ErrorRateTooHigh", "CanaryFailing")),
    "latency": Fault(
        {
            "steps": [{"weight": 10, "duration": "2m"}],
            "gates": {"maxErrorRate": "50%", "maxP99": "80ms", "minRequests": 10},
        },
        ("TooSlow",),
    ),
    "agreement": Fault(
        {
            "steps": [{"shadow": 100, "duration": "2m"}],
            "gates": {"maxErrorRate": "50%", "minAgreement": "90%", "minRequests": 20},
        },
        ("DisagreesWithServing",),
    ),
    "crash": Fault(SENT, ("Crashed",)),
    "crash-at-start": Fault(SENT, ("Crashed",)),
    "oom": Fault(SENT, ("OutOfMemory",)),
    "hang": Fault(SENT, ("ErrorRateTooHigh", "CanaryFailing")),
}


@pytest.fixture(scope="module")
def bundles(told: Told) -> dict[str, str]:
    """Names of the bundles by fault, on sites that serve a good one."""
    folder = scratch("faulty")
    faulty.write(folder)
    if told.story.watcher.look().condition("Ready").get("status") != "True":
        told.release(told.new_bundle())
    return {fault: told.new_bundle(fault, model=folder / f"{fault}.onnx") for fault in FAULTS}


def serving_pods(told: Told, site: str, revision: str) -> set[tuple[str, int]]:
    """Pods of a revision, each with the number of its restarts."""
    chosen = f"edgefleet.dev/model={NAMESPACE}.{MODEL},edgefleet.dev/revision={revision}"
    return {
        (pod["metadata"]["uid"], sum(each["restartCount"] for each in pod["status"]["containerStatuses"]))
        for pod in told.fleet.sites[site].pods(MODELS, chosen)
    }


def refusals(now: Picture, site: str, revision: str) -> list[str]:
    """Why the site refused a revision."""
    return [
        each["reason"] for each in now.sites[site].report.get("refused", []) if each["revision"] == revision
    ]


@pytest.mark.parametrize("fault", FAULTS)
def test_the_site_goes_back_and_no_request_fails(told: Told, bundles: dict[str, str], fault: str) -> None:
    site, story, bundle = next(iter(told.fleet.sites)), told.story, bundles[fault]
    before = story.watcher.look()
    good = before.sites[site].serving_bundle
    revision = str(before.sites[site].report["activeRevision"])
    pods = serving_pods(told, site, revision)
    model = copy.deepcopy(edge_model(story.bundles[bundle]))
    model["spec"]["canary"] = {**FAULTS[fault].canary, "progressDeadline": "2m"}
    began = time.monotonic()
    told.fleet.hub.apply(model)
    bad = story.bundles[bundle].digest

    def over(now: Picture) -> bool:
        stalled = now.condition("Stalled")
        named = stalled.get("status") == "True" and bad in stalled.get("message", "")
        return now.settled() and named and now.all_serve(good) and not _of(told, site, bad)

    now = story.until(f"{fault} is rolled back", over)
    print(f"{fault}: {time.monotonic() - began:.0f} s from apply to rolled back: {_told(now, fault, bad)}")

    assert serving_pods(told, site, revision) == pods, "what served was touched"
    (reason,) = {_reason(now, bad)}
    assert reason in FAULTS[fault].reasons
    after = story.watcher.look().sites[site].totals
    assert after.failed == before.sites[site].totals.failed, told.story.watcher.traffic.errors
    assert after.sent > before.sites[site].totals.sent


def _of(told: Told, site: str, digest: str) -> list[str]:
    """Deployments of a bundle on a site."""
    found = told.fleet.sites[site].get(f"/apis/apps/v1/namespaces/{MODELS}/deployments")["items"]
    return [
        each["metadata"]["name"]
        for each in found
        if each["metadata"]["annotations"].get("edgefleet.dev/bundle") == digest
    ]


def _reason(now: Picture, digest: str) -> str:
    """Why the rollout of a bundle failed, by the hub's count of failures."""
    rollout = next(each for each in reversed(now.rollouts) if digest in each["spec"]["bundle"])
    return str(rollout["status"]["failures"][0]["reason"])


def _told(now: Picture, fault: str, digest: str) -> str:
    rollout = next(each for each in reversed(now.rollouts) if digest in each["spec"]["bundle"])
    return str(rollout["status"].get("failures"))
