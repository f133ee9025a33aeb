"""Who is to blame for a pod in trouble: each row a sentence."""

from typing import Any

import pytest
from edgefleet.core import local_observe
from edgefleet.core.order import Cause
from edgepod.contract import SelfTestReport

MODEL, OUTSIDE = Cause.MODEL, Cause.ENVIRONMENT
READY = [{"type": "Ready", "status": "True"}]
LIMITED = {"containers": [{"resources": {"limits": {"memory": "128Mi"}}}]}


def ended(code: int, reason: str = "Error", message: str = "") -> dict[str, Any]:
    return {"terminated": {"exitCode": code, "reason": reason, "message": message}}


def waiting(reason: str) -> dict[str, Any]:
    return {"waiting": {"reason": reason, "message": "because"}}


PODS = [
    ("a running pod has no trouble", {"state": {"running": {}}}, [], None, "", False),
    ("an image that cannot be pulled", {"state": waiting("ImagePullBackOff")}, [], OUTSIDE, "ImagePullFailed", False),
    ("a container that cannot be made", {"state": waiting("CreateContainerConfigError")}, [], OUTSIDE, "ContainerNotCreated", False),
    ("no memory on any node", {}, [{"type": "PodScheduled", "status": "False", "message": "0/1 nodes: 1 Insufficient memory."}], OUTSIDE, "InsufficientMemory", False),
    ("no node for another reason", {}, [{"type": "PodScheduled", "status": "False", "message": "0/1 nodes: taint"}], OUTSIDE, "Unschedulable", False),
    ("more memory than its limit", {"lastState": ended(137, "OOMKilled")}, [], MODEL, "OutOfMemory", False),
    ("more memory than its limit, and running again", {"state": {"running": {}}, "lastState": ended(137, "OOMKilled")}, READY, MODEL, "OutOfMemory", False),
    ("an exception at start", {"state": waiting("CrashLoopBackOff"), "lastState": ended(1)}, [], MODEL, "Crashed", False),
    ("a crash in native code", {"lastState": ended(139)}, [], MODEL, "Crashed", False),
    ("killed from outside", {"lastState": ended(137)}, [], None, "", True),
    ("ended with its node", {"lastState": ended(255, "Unknown")}, [], None, "", True),
    ("ended by SIGTERM", {"lastState": ended(143)}, [], None, "", True),
    ("no store to load from", {"state": waiting("CrashLoopBackOff"), "lastState": ended(2)}, [], OUTSIDE, "PodEnvironment", False),
    ("no store at first, ready now", {"state": {"running": {}}, "lastState": ended(2)}, READY, None, "", False),
]  # fmt: skip


def raw(container: dict[str, Any], conditions: list[dict[str, str]]) -> dict[str, Any]:
    return {
        "metadata": {"name": "p", "uid": "u", "labels": {}},
        "spec": LIMITED,
        "status": {"conditions": conditions, "containerStatuses": [{"restartCount": 1, **container}]},
    }


@pytest.mark.parametrize(("container", "conditions", "cause", "reason", "killed"), [row[1:] for row in PODS], ids=[row[0] for row in PODS])  # fmt: skip
def test_a_pod(
    container: dict[str, Any],
    conditions: list[dict[str, str]],
    cause: Cause | None,
    reason: str,
    killed: bool,
) -> None:
    seen = local_observe.pod(raw(container, conditions))
    assert seen is not None
    assert seen.killed is killed
    assert (seen.trouble.cause if seen.trouble else None) is cause
    assert (seen.trouble.reason if seen.trouble else "") == reason


STARTED = [
    ("it runs", [{"state": {"running": {}}}], True),
    ("it ended and waits to be started again", [{"state": waiting(""), "lastState": ended(137)}], True),
    ("its image is being pulled", [{"restartCount": 0, "state": waiting("ContainerCreating")}], False),
    ("no kubelet has seen it", [], False),
]


@pytest.mark.parametrize(("statuses", "started"), [row[1:] for row in STARTED], ids=[row[0] for row in STARTED])  # fmt: skip
def test_a_pod_has_started_once_its_container_has(statuses: list[dict[str, Any]], started: bool) -> None:
    item = raw({}, [])
    item["status"]["containerStatuses"] = statuses
    seen = local_observe.pod(item)
    assert seen is not None
    assert seen.started is started


@pytest.mark.parametrize(("status", "failure"), [("True", "FailedCreate: exceeded quota"), ("False", "")])
def test_a_deployment_says_that_its_pods_cannot_be_made(status: str, failure: str) -> None:
    told = {"type": "ReplicaFailure", "status": status, "reason": "FailedCreate", "message": "exceeded quota"}
    item = {"metadata": {"name": "d", "uid": "u"}, "spec": {}, "status": {"conditions": [told]}}
    assert local_observe.deployment(item).failure == failure


def test_an_evicted_pod_is_no_pod() -> None:
    item = raw({}, [])
    item["status"]["phase"] = "Failed"
    assert local_observe.pod(item) is None


GOOD = SelfTestReport(passed=True, agreement=1.0)
BAD = SelfTestReport(passed=False, reason="GoldenDisagrees")
AWAY = SelfTestReport(passed=False, reason="StoreUnreachable")
TESTS = [
    ("it passed", ended(0, message=GOOD.to_json().decode()), GOOD, None, "", True),
    ("it failed", ended(1, message=BAD.to_json().decode()), BAD, None, "", True),
    ("the environment was in the way", ended(2, message=AWAY.to_json().decode()), None, OUTSIDE, "StoreUnreachable", True),
    ("it says passed and exits with 1", ended(1, message=GOOD.to_json().decode()), None, MODEL, "SelfTestCrashed", True),
    ("it says failed and exits with 0", ended(0, message=BAD.to_json().decode()), None, OUTSIDE, "SelfTestKilled", True),
    ("it was killed without a word", ended(137), None, OUTSIDE, "SelfTestKilled", True),
    ("it crashed in native code", ended(139), None, MODEL, "SelfTestCrashed", True),
    ("it outgrew its memory", ended(137, "OOMKilled"), None, MODEL, "OutOfMemory", True),
    ("its message is no report", ended(1, message="Traceback …"), None, MODEL, "SelfTestCrashed", True),
    ("its image is missing", waiting("ErrImagePull"), None, OUTSIDE, "ImagePullFailed", False),
    ("it runs", {"running": {}}, None, None, "", False),
]  # fmt: skip


@pytest.mark.parametrize(("state", "report", "cause", "reason", "over"), [row[1:] for row in TESTS], ids=[row[0] for row in TESTS])  # fmt: skip
def test_a_self_test(
    state: dict[str, Any], report: SelfTestReport | None, cause: Cause | None, reason: str, over: bool
) -> None:
    job = {"metadata": {"name": "j", "uid": "u", "labels": {}}}
    pods = [{"metadata": {}, "spec": LIMITED, "status": {"containerStatuses": [{"state": state}]}}]
    seen = local_observe.job(job, pods)
    assert seen.report == report
    assert (seen.trouble.cause if seen.trouble else None) is cause
    assert (seen.trouble.reason if seen.trouble else "") == reason
    assert seen.ended is over


def test_out_of_memory_without_a_limit_is_the_nodes_and_nobody_knows_who_filled_it() -> None:
    found = raw({"lastState": ended(137, "OOMKilled")}, [])
    del found["spec"]
    seen = local_observe.pod(found)
    assert seen is not None
    assert (seen.killed, seen.trouble) == (True, None)
    job = {"metadata": {"name": "j", "uid": "u", "labels": {}}}
    pod = {"metadata": {}, "status": {"containerStatuses": [{"state": ended(137, "OOMKilled")}]}}
    tested = local_observe.job(job, [pod])
    assert tested.trouble is not None
    assert (tested.trouble.cause, tested.trouble.reason) == (OUTSIDE, "SelfTestKilled")


def test_a_job_that_lost_its_pod_is_tried_again() -> None:
    job = {
        "metadata": {"name": "j", "uid": "u", "labels": {}},
        "status": {"conditions": [{"type": "Failed", "status": "True", "message": "deleted"}]},
    }
    seen = local_observe.job(job, [])
    assert seen.trouble is not None
    assert (seen.trouble.cause, seen.ended) == (OUTSIDE, True)


def test_an_endpoint_without_a_word_on_readiness_is_ready() -> None:
    (found,) = local_observe.endpoints([{"endpoints": [{"targetRef": {"name": "p"}, "conditions": {}}]}])
    assert (found.pod, found.ready) == ("p", True)
