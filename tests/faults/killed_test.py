"""Operator and agent die by SIGKILL before and after each kind of write of a rollout; the end is the same."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from support.clusters import Told

from demo.cluster import Cluster, condition
from demo.fleet import AGENT, MODELS, SYSTEM, wait
from demo.story import MODEL, NAMESPACE

# A rollout in thirty lives takes minutes; the ordinary run kills operator and agent at their writes in tests/cluster.
pytestmark = [pytest.mark.e2e, pytest.mark.soak, pytest.mark.timeout(900)]

LIVES = 600.0
"""Seconds for a rollout with some thirty restarts in it; a start takes one to two on an idle machine."""
MORTAL = Path(__file__).parents[1] / "support" / "mortal.py"


@contextmanager
def mortal(cluster: Cluster, namespace: str, deployment: str, container: str, entry: str) -> Iterator[None]:
    """Let a Deployment's container run under mortal.py for a while."""
    path = f"/apis/apps/v1/namespaces/{namespace}/deployments/{deployment}"
    template = cluster.get(path)["spec"]["template"]["spec"]
    was = next(each for each in template["containers"] if each["name"] == container)
    arguments = [*was.get("command", [])[1:], *was.get("args", [])]
    files = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "mortal", "namespace": namespace}}
    cluster.apply({**files, "data": {"mortal.py": MORTAL.read_text()}})
    changed = {
        "name": container,
        "command": ["python3", "/mortal/mortal.py", entry],
        "args": arguments,
        "volumeMounts": [{"name": "mortal", "mountPath": "/mortal"}],
        # nobody who dies every few seconds is alive by its measure
        "livenessProbe": None,
    }
    spec = {"containers": [changed], "volumes": [{"name": "mortal", "configMap": {"name": "mortal"}}]}
    patch = json.dumps({"spec": {"template": {"spec": spec}}})
    cluster.kubectl("patch", "deployment", deployment, "-n", namespace, "-p", patch)
    _rolled(cluster, namespace, deployment)
    try:
        yield
    finally:
        cluster.kubectl("rollout", "undo", f"deployment/{deployment}", "-n", namespace)
        _rolled(cluster, namespace, deployment)


def _rolled(cluster: Cluster, namespace: str, deployment: str) -> None:
    cluster.kubectl(
        "rollout", "status", f"deployment/{deployment}", "-n", namespace, "--timeout=120s", timeout=130
    )


def deaths(cluster: Cluster, namespace: str, deployment: str, container: str) -> list[str]:
    """Where the product died, in order."""
    pod = f"deployment/{deployment}"
    return cluster.kubectl(
        "exec", "-n", namespace, pod, "-c", container, "--", "cat", "/tmp/deaths"
    ).splitlines()


def left_behind(told: Told, site: str) -> dict[str, Any]:
    """What a rollout leaves in a site, names of revisions taken out."""
    cluster = told.fleet.sites[site]
    label = f"edgefleet.dev/model={NAMESPACE}.{MODEL}"
    kinds = {"deployments": "/apis/apps/v1", "jobs": "/apis/batch/v1", "services": "/api/v1"}
    found = {
        kind: cluster.get(f"{at}/namespaces/{MODELS}/{kind}", labelSelector=label)
        for kind, at in kinds.items()
    }
    report = told.story.watcher.look().sites[site].report
    return {
        "counts": {kind: len(listed["items"]) for kind, listed in found.items()},
        "stage": report["stage"],
        "conditions": [(each["type"], each["status"], each["reason"]) for each in report["conditions"]],
        "refused": report.get("refused", []),
        "serves what was ordered": report["activeRevision"]
        == told.story.watcher.look().sites[site].order["revision"],
    }


def whole(told: Told) -> dict[str, Any]:
    """The end state of a rollout, on the hub and in the sites."""
    now = told.story.watcher.look()
    rollout = now.rollouts[-1]
    return {
        "model": [
            (each["type"], each["status"], each["reason"]) for each in now.model["status"]["conditions"]
        ],
        "sites": now.model["status"]["sites"],
        "outcome": rollout["status"]["outcome"],
        "failures": rollout["status"].get("failures", []),
        "left": {site: left_behind(told, site) for site in told.fleet.sites},
        "ready": condition(dict(now.model), "Ready")["status"],
    }


def settled(told: Told) -> dict[str, Any]:
    """The end state once cleaning up has come to rest."""
    last: dict[str, Any] = {}

    def at_rest() -> bool:
        nonlocal last
        before, last = last, whole(told)
        return before == last

    wait("the end state rests", 60, at_rest, pause=3)
    return last


@pytest.fixture(scope="module")
def undisturbed(told: Told) -> dict[str, Any]:
    """The end state of a rollout that nobody disturbed."""
    told.release(told.new_bundle())
    return settled(told)


def test_an_agent_killed_at_each_of_its_writes_ends_in_the_same_state(
    told: Told, undisturbed: dict[str, Any]
) -> None:
    site, cluster = next(iter(told.fleet.sites.items()))
    failed = told.story.watcher.look().totals().failed
    with mortal(cluster, AGENT, "edgefleet-agent", "agent", "edgefleet.agent.main:main"):
        told.release(told.new_bundle(), LIVES)
        died = deaths(cluster, AGENT, "edgefleet-agent", "agent")
    assert settled(told) == undisturbed
    assert told.story.watcher.look().totals().failed == failed
    print(f"{site}: the agent died {len(died)} times: {died}")
    for what in ("POST deployments", "POST jobs", "services selector", "edgedeployments/status", "file"):
        assert any(what in point for point in died), f"never died at {what}: {died}"
    assert {point.split(" ", 1)[0] for point in died} == {"before", "after"}


def test_an_operator_killed_at_each_of_its_writes_ends_in_the_same_state(
    told: Told, undisturbed: dict[str, Any]
) -> None:
    hub = told.fleet.hub
    with mortal(hub, SYSTEM, "edgefleet-operator", "operator", "edgefleet.handlers.main:main"):
        told.release(told.new_bundle(), LIVES)
        died = deaths(hub, SYSTEM, "edgefleet-operator", "operator")
    assert settled(told) == undisturbed
    print(f"the operator died {len(died)} times: {died}")
    for what in ("POST edgerollouts", "edgedeployments", "edgemodels/status", "edgerollouts/status"):
        assert any(what in point for point in died), f"never died at {what}: {died}"
