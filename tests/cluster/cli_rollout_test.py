"""`edgefleet rollout …`, `status`, `explain` and `release` against a real API server."""

import secrets
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from edgefleet.core import names
from edgefleet.kube import errors, kinds
from edgefleet.kube.client import Api
from support import crds
from support.commands import Cluster
from support.crd_examples import NOW, Object

pytestmark = pytest.mark.cluster
RUNNING = {"spec.approvals": crds.ABSENT, "status.outcome": "", "status.completedAt": crds.ABSENT}


@pytest.fixture
def hub(api_server: Path) -> Iterator[Cluster]:
    cluster = Cluster(api_server, f"cli-{secrets.token_hex(4)}")
    cluster.ask(lambda api: api.create(kinds.NAMESPACE, None, {"metadata": {"name": cluster.namespace}}))
    yield cluster
    cluster.ask(lambda api: api.delete(kinds.NAMESPACE, None, cluster.namespace, uid=None))


def _rollout(hub: Cluster, number: int = 3, **changes: object) -> None:
    named = {"metadata.name": f"digits-{number}", "spec.number": number}
    hub.create(kinds.EDGE_ROLLOUT, crds.example(kinds.EDGE_ROLLOUT, {**RUNNING, **named, **changes}))


def _model(hub: Cluster, **changes: object) -> None:
    hub.create(kinds.EDGE_MODEL, crds.example(kinds.EDGE_MODEL, changes))


@pytest.fixture
def running(hub: Cluster) -> Cluster:
    """A model with a rollout that runs."""
    _model(hub)
    _rollout(hub)
    return hub


def _spec(hub: Cluster, name: str = "digits-3") -> Object:
    spec: Object = hub.get(kinds.EDGE_ROLLOUT, name)["spec"]
    return spec


@pytest.mark.parametrize(
    ("verb", "field", "value"),
    [
        ("pause", "desired", "Paused"),
        ("abort", "desired", "Aborted"),
        ("finish", "finish", True),
        ("direct", "direct", True),
    ],
)
def test_a_verb_sets_its_level_and_nothing_else(
    running: Cluster, verb: str, field: str, value: object
) -> None:
    before = _spec(running)

    done = running.rollout(verb, "digits")

    assert done.exit_code == 0, done.output
    assert _spec(running) == {**before, field: value}


def test_a_paused_rollout_is_resumed(running: Cluster) -> None:
    running.rollout("pause", "digits")

    done = running.rollout("resume", "digits")

    assert done.output == "digits-3: running\n"
    assert _spec(running)["desired"] == "Run"


def test_a_verb_said_twice_says_so(running: Cluster) -> None:
    running.rollout("pause", "digits")

    assert running.rollout("pause", "digits").output == "digits-3: paused already\n"


def test_the_newest_rollout_is_meant_by_number_not_by_name(running: Cluster) -> None:
    _rollout(running, 10)

    assert running.rollout("pause", "digits").output == "digits-10: paused\n"


def test_a_rollout_can_be_named_itself(running: Cluster) -> None:
    _rollout(running, 10)

    assert running.rollout("pause", "digits-3").output == "digits-3: paused\n"


def test_an_aborted_rollout_is_not_resumed(running: Cluster) -> None:
    running.rollout("abort", "digits")

    done = running.rollout("resume", "digits")

    assert done.exit_code == 1
    assert "cannot be taken back" in done.output


@pytest.mark.parametrize("verb", ["pause", "abort", "finish", "direct"])
def test_a_rollout_that_has_failed_takes_no_verbs(hub: Cluster, verb: str) -> None:
    _model(hub)
    _rollout(hub, **{"status.outcome": "RolledBack"})

    done = hub.rollout(verb, "digits")

    assert done.exit_code == 1
    assert "digits-3 has ended: RolledBack" in done.output


def test_a_rollout_that_succeeded_can_still_be_aborted(hub: Cluster) -> None:
    _model(hub)
    _rollout(hub, **{"status.outcome": "Complete"})

    done = hub.rollout("abort", "digits")

    assert done.exit_code == 0, done.output
    assert _spec(hub)["desired"] == "Aborted"


@pytest.mark.parametrize("arguments", [["lab"], ["--wave", "lab"]], ids=["argument", "option"])
def test_an_approval_names_who_gave_it(running: Cluster, arguments: list[str]) -> None:
    done = running.rollout("approve", "digits", *arguments)

    assert done.exit_code == 0, done.output
    (approval,) = _spec(running)["approvals"]
    assert approval["wave"] == "lab"
    assert approval["by"] in done.output
    assert approval["by"] not in ("", "unknown")


def test_approvals_add_up(running: Cluster) -> None:
    running.rollout("approve", "digits", "lab", "--by", "ada")
    running.rollout("approve", "digits", "rest", "--by", "grace")

    assert _spec(running)["approvals"] == [{"wave": "lab", "by": "ada"}, {"wave": "rest", "by": "grace"}]


def test_a_second_approval_names_the_first(running: Cluster) -> None:
    running.rollout("approve", "digits", "lab", "--by", "ada")

    done = running.rollout("approve", "digits", "lab", "--by", "grace")

    assert done.output == "digits-3: lab is approved already, by ada\n"


def test_a_wave_that_is_not_there_is_not_approved(running: Cluster) -> None:
    done = running.rollout("approve", "digits", "early")

    assert done.exit_code == 1
    assert "has no wave early; it has lab, rest" in done.output


def test_a_removal_is_approved_on_a_rollout_that_has_ended(hub: Cluster) -> None:
    _model(hub)
    _rollout(hub, **{"status.outcome": "Complete"})

    done = hub.rollout("approve", "digits", "--wave", "removal-4", "--by", "ada")

    assert done.exit_code == 0, done.output
    assert _spec(hub)["approvals"] == [{"wave": "removal-4", "by": "ada"}]


def test_an_approval_names_exactly_one_wave(running: Cluster) -> None:
    assert running.rollout("approve", "digits").exit_code == 2
    assert running.rollout("approve", "digits", "lab", "--wave", "lab").exit_code == 2


def test_a_failed_revision_is_tried_again_by_annotating_the_model(hub: Cluster) -> None:
    _model(hub)
    _rollout(hub, **{"status.outcome": "RolledBack"})

    done = hub.rollout("retry", "digits")

    assert done.exit_code == 0, done.output
    model = hub.get(kinds.EDGE_MODEL, "digits")
    assert model["metadata"]["annotations"][names.RETRY].endswith("Z")
    assert model["spec"] == crds.FULL[kinds.EDGE_MODEL]["spec"] | {"rollout": model["spec"]["rollout"]}, (
        "the spec is the user's"
    )


def test_what_has_not_failed_is_not_tried_again(running: Cluster) -> None:
    done = running.rollout("retry", "digits")

    assert done.exit_code == 1
    assert "there is nothing to try again: digits-3 is running" in done.output


def test_a_name_that_nothing_bears_is_refused(hub: Cluster) -> None:
    done = hub.rollout("pause", "digits")

    assert done.exit_code == 1
    assert (
        f"namespace {hub.namespace} has neither an EdgeModel nor an EdgeRollout named digits" in done.output
    )


def test_a_model_without_rollout_says_what_keeps_it(hub: Cluster) -> None:
    stuck = {
        **crds.FULL[kinds.EDGE_MODEL]["status"]["conditions"][0],
        "status": "False",
        "reason": "Unsigned",
    }
    _model(hub, **{"status.conditions": [{**stuck, "message": "no signature"}]})

    assert "has no rollout yet (Unsigned: no signature)" in hub.rollout("pause", "digits").output


def test_the_state_of_a_rollout_shows_waves_and_failures(running: Cluster) -> None:
    output = running.rollout("status", "digits").output

    assert "digits-3: revision 0123456789, attempt 1" in output
    assert [line.split()[:2] for line in output.splitlines() if line.startswith(("lab", "rest"))] == [
        ["lab", "complete"],
        ["rest", "to"],
    ]
    assert "GoldenDisagrees" in output


def test_rollouts_are_listed_with_how_they_ended(running: Cluster) -> None:
    _rollout(running, 4, **{"status.outcome": "RolledBack"})

    rows = [line.split() for line in running.rollout("list").output.splitlines()[1:]]

    assert {row[0]: row[4] for row in rows} == {"digits-3": "Run", "digits-4": "RolledBack"}


def test_one_page_shows_models_rollouts_and_what_is_in_trouble(running: Cluster) -> None:
    stalled = {
        "type": "Stalled",
        "status": "True",
        "reason": "RolledBack",
        "message": "went back to sha256:5a…",
        "lastTransitionTime": NOW,
    }
    running.set_status(kinds.EDGE_MODEL, "digits", {"conditions": [stalled]})
    blocked = {"status.stage": "Blocked", "status.reason": "DiskFull", "status.message": "3 MiB are left"}
    running.create(kinds.EDGE_DEPLOYMENT, crds.example(kinds.EDGE_DEPLOYMENT, blocked))

    output = running.edgefleet("status", "-n", running.namespace).output

    assert "! " + running.namespace + "/digits: went back to sha256:5a…" in output
    assert any(line.startswith("digits-3") for line in output.splitlines())
    assert any(
        line.split()[:4] == [running.namespace, "vision/digits", "Blocked", "DiskFull"]
        for line in output.splitlines()
    )


def test_an_explanation_says_what_would_move_a_model(running: Cluster) -> None:
    waiting = {
        "type": "Reconciling",
        "status": "True",
        "reason": "WaitingApproval",
        "message": "wave early waits",
        "lastTransitionTime": NOW,
    }
    running.set_status(kinds.EDGE_MODEL, "digits", {"conditions": [waiting]})

    output = running.edgefleet("explain", "model", "digits", "-n", running.namespace).output

    assert "Reconciling=True WaitingApproval: wave early waits" in output
    assert "WaitingApproval: edgefleet rollout approve MODEL --wave WAVE" in output


def test_released_models_can_be_deleted_and_keep_other_finalizers(hub: Cluster) -> None:
    _model(hub, **{"metadata.finalizers": [names.MODEL_FINALIZER, "example.com/mine"]})

    done = hub.edgefleet("release")

    assert done.exit_code == 0, done.output
    assert hub.get(kinds.EDGE_MODEL, "digits")["metadata"]["finalizers"] == ["example.com/mine"]

    async def let_go(api: Api) -> None:
        free = {"metadata": {"finalizers": None}}
        await api.merge_patch(kinds.EDGE_MODEL, hub.namespace, "digits", free)
        await api.delete(kinds.EDGE_MODEL, hub.namespace, "digits", uid=None)

    hub.ask(let_go)
    with pytest.raises(errors.NotFound):
        hub.get(kinds.EDGE_MODEL, "digits")


def test_kubectl_finds_it_as_a_plugin(running: Cluster) -> None:
    plugin = Path(sys.executable).parent / "kubectl-edgefleet"
    command = [plugin, "rollout", "list", "-n", running.namespace, "--kubeconfig", running.kubeconfig]

    done = subprocess.run(command, capture_output=True, text=True, timeout=60)

    assert done.returncode == 0, done.stderr
    assert "digits-3" in done.stdout
