"""From objects of the site's API server to the nouns of the local pass, and who is to blame for a pod in trouble."""

from collections.abc import Iterable, Mapping
from typing import Any, Final

from edgepod.contract import ContractError, HealthDocument, SelfTestReport

from edgefleet.core import names, rendering
from edgefleet.core.local import DeploymentSeen, Endpoint, JobSeen, PodSeen, ServiceSeen, Trouble
from edgefleet.core.order import Cause

Object = Mapping[str, Any]

ENVIRONMENT_EXIT: Final = 2
"""Exit code of edgepod when the model is not to blame."""
_FROM_OUTSIDE: Final = frozenset({0, 130, 137, 143, 255})
"""Ended by a signal, or with the node; 255 is what a container runtime says that lost track of one."""
NO_MEMORY: Final = "InsufficientMemory"
_SCARCE: Final = {"Insufficient memory": NO_MEMORY, "Insufficient cpu": "InsufficientCpu"}
"""What the scheduler says, and our reason for it."""
DAMAGED: Final = frozenset({"DigestMismatch", "SizeMismatch", "BadServingDocument"})
"""What a pod says when the site's store gives it other bytes than asked for."""
_NOT_ITS_FAULT: Final = DAMAGED | {"StoreUnreachable", "CacheFailed", "BadDigest"}
_ON_ITS_WAY: Final = frozenset({"", "Starting", "Loading", "Draining"})
_NO_IMAGE: Final = frozenset(
    {
        "ErrImagePull",
        "ImagePullBackOff",
        "ErrImageNeverPull",
        "InvalidImageName",
        "RegistryUnavailable",
        "ImageInspectError",
    }
)
_NOT_CREATED: Final = frozenset(
    {"CreateContainerConfigError", "CreateContainerError", "RunContainerError", "PreCreateHookError"}
)


def ours(item: Object, namespace: str, model: str) -> bool:
    """Return whether an object carries our labels for this model."""
    found = item["metadata"].get("labels") or {}
    return all(found.get(key) == value for key, value in rendering.labels(namespace, model).items())


def service(item: Object, namespace: str, model: str) -> ServiceSeen:
    """Read a Service."""
    spec, meta = item.get("spec") or {}, item["metadata"]
    return ServiceSeen(
        name=meta["name"],
        uid=meta["uid"],
        revision=(spec.get("selector") or {}).get(names.REVISION, ""),
        address=spec.get("clusterIP") or "",
        ours=ours(item, namespace, model),
    )


def deployment(item: Object) -> DeploymentSeen:
    """Read one of our Deployments."""
    meta = item["metadata"]
    notes = meta.get("annotations") or {}
    version = notes.get(rendering.BUNDLE_VERSION, "")
    failed = _condition(item.get("status") or {}, "ReplicaFailure")
    refused = failed.get("status") == "True"
    return DeploymentSeen(
        name=meta["name"],
        uid=meta["uid"],
        revision=(meta.get("labels") or {}).get(names.REVISION, ""),
        replicas=item["spec"].get("replicas", 1),
        bundle=notes.get(rendering.BUNDLE, ""),
        version=int(version) if version.isdecimal() else 0,
        variant=notes.get(rendering.VARIANT, ""),
        failure=f"{failed.get('reason', '')}: {failed.get('message', '')}" if refused else "",
    )


def endpoints(slices: Iterable[Object]) -> tuple[Endpoint, ...]:
    """Read the EndpointSlices of one Service."""
    found = []
    for item in slices:
        for line in item.get("endpoints") or ():
            target = line.get("targetRef") or {}
            name = target.get("name") or next(iter(line.get("addresses") or ()), "")
            found.append(Endpoint(name, (line.get("conditions") or {}).get("ready") is not False))
    return tuple(sorted(found, key=lambda line: line.pod))


# -- pods -----------------------------------------------------------------------------------------------
def pod(item: Object) -> PodSeen | None:
    """Read a serving pod; None for one that is over and only waits to be cleaned up."""
    meta, status = item["metadata"], item.get("status") or {}
    if status.get("phase") in ("Failed", "Succeeded"):
        return None
    container: Object = next(iter(status.get("containerStatuses") or ()), {})
    ready = _condition(status, "Ready").get("status") == "True"
    trouble, killed = _pod_trouble(status, container, limited=_limited(item))
    if trouble is not None and trouble.cause is Cause.ENVIRONMENT and ready:
        trouble = None
    return PodSeen(
        name=meta["name"],
        uid=meta["uid"],
        revision=(meta.get("labels") or {}).get(names.REVISION, ""),
        ip=status.get("podIP") or "",
        ready=ready,
        terminating="deletionTimestamp" in meta,
        restarts=container.get("restartCount", 0),
        trouble=trouble,
        started="running" in (container.get("state") or {}) or _ended(container) is not None,
        killed=killed,
    )


def told(health: HealthDocument | None) -> Trouble | None:
    """Read what a pod that is not ready says of itself: in a site it stays and tells instead of ending."""
    if health is None or health.ready or health.reason in _ON_ITS_WAY:
        return None
    cause = Cause.ENVIRONMENT if health.reason in _NOT_ITS_FAULT else Cause.MODEL
    return Trouble(cause, health.reason, "said by the pod itself, see its log")


def _pod_trouble(status: Object, container: Object, *, limited: bool) -> tuple[Trouble | None, bool]:
    unable = _cannot_start(status, container)
    if unable is not None:
        return unable, False
    ended = _ended(container)
    if ended is None:
        return None, False
    return _blame(ended, "Crashed", limited=limited), _killed(ended, limited=limited)


def _limited(item: Object) -> bool:
    """Whether the pod has a memory limit of its own."""
    containers: Iterable[Object] = (item.get("spec") or {}).get("containers") or ()
    return any("memory" in ((each.get("resources") or {}).get("limits") or {}) for each in containers)


def _cannot_start(status: Object, container: Object) -> Trouble | None:
    scheduled = _condition(status, "PodScheduled")
    if scheduled.get("status") == "False":
        message = scheduled.get("message", "")
        reason = next((why for what, why in _SCARCE.items() if what in message), "Unschedulable")
        return Trouble(Cause.ENVIRONMENT, reason, message)
    waiting = (container.get("state") or {}).get("waiting") or {}
    reason, message = waiting.get("reason", ""), waiting.get("message", "")
    if reason in _NO_IMAGE:
        return Trouble(Cause.ENVIRONMENT, "ImagePullFailed", f"{reason}: {message}")
    if reason in _NOT_CREATED:
        return Trouble(Cause.ENVIRONMENT, "ContainerNotCreated", f"{reason}: {message}")
    return None


def _ended(container: Object) -> Object | None:
    for state in ("state", "lastState"):
        found: Object | None = (container.get(state) or {}).get("terminated")
        if found is not None:
            return found
    return None


def _killed(ended: Object, *, limited: bool) -> bool:
    """Whether it was ended from outside. Out of memory without a limit is the node's: who filled it, nobody knows."""
    if ended.get("reason") == "OOMKilled":
        return not limited
    return ended.get("exitCode") in _FROM_OUTSIDE


def _blame(ended: Object, reason: str, *, limited: bool) -> Trouble | None:
    """Say whose fault the end of a container was; None when it was ended from outside."""
    code, text = ended.get("exitCode"), str(ended.get("message") or "").strip()[-500:]
    if _killed(ended, limited=limited):
        return None
    if ended.get("reason") == "OOMKilled":
        return Trouble(Cause.MODEL, "OutOfMemory", "it needed more memory than its limit")
    if code == ENVIRONMENT_EXIT:
        return Trouble(Cause.ENVIRONMENT, "PodEnvironment", text)
    return Trouble(Cause.MODEL, reason, f"exit code {code}{': ' if text else ''}{text}")


def _condition(status: Object, kind: str) -> Object:
    found: Iterable[Object] = status.get("conditions") or ()
    return next((item for item in found if item.get("type") == kind), {})


# -- self-test --------------------------------------------------------------------------------------------
def job(item: Object, pods: Iterable[Object]) -> JobSeen:
    """Read a self-test Job; `pods` are those it made."""
    meta, status = item["metadata"], item.get("status") or {}
    marks = meta.get("labels") or {}
    attempt = marks.get(rendering.ATTEMPT, "")
    seen = JobSeen(
        name=meta["name"],
        uid=meta["uid"],
        revision=marks.get(rendering.SELFTEST, ""),
        attempt=int(attempt) if attempt.isdecimal() else -1,
    )
    for made in pods:
        found = _tested(seen, made)
        if found is not None:
            return found
    failed = _condition(status, "Failed")
    if failed.get("status") == "True":
        trouble = Trouble(Cause.ENVIRONMENT, "SelfTestInterrupted", failed.get("message", ""))
        return _with(seen, trouble=trouble, ended=True)
    return seen


def _tested(seen: JobSeen, made: Object) -> JobSeen | None:
    status: Object = made.get("status") or {}
    container: Object = next(iter(status.get("containerStatuses") or ()), {})
    ended = (container.get("state") or {}).get("terminated")
    if ended is not None:
        return _ended_test(seen, ended, limited=_limited(made))
    trouble = _cannot_start(status, container)
    if trouble is not None:
        return _with(seen, trouble=trouble)
    running = "running" in (container.get("state") or {})
    return _with(seen, running=True) if running else None


def _ended_test(seen: JobSeen, ended: Object, *, limited: bool) -> JobSeen:
    try:
        report: SelfTestReport | None = SelfTestReport.from_json(str(ended.get("message") or ""))
    except ContractError:
        report = None
    code = ended.get("exitCode")
    if report is not None and code == ENVIRONMENT_EXIT:
        return _with(seen, trouble=_outside(report), ended=True)
    if report is not None and report.passed == (code == 0):
        return _with(seen, report=report, ended=True)
    trouble = _blame(ended, "SelfTestCrashed", limited=limited)
    if trouble is None:
        trouble = Trouble(Cause.ENVIRONMENT, "SelfTestKilled", f"exit code {code} without a report")
    return _with(seen, trouble=trouble, ended=True)


def _outside(report: SelfTestReport) -> Trouble:
    return Trouble(Cause.ENVIRONMENT, report.reason or "PodEnvironment", report.message)


def _with(
    seen: JobSeen,
    *,
    report: SelfTestReport | None = None,
    trouble: Trouble | None = None,
    running: bool = False,
    ended: bool = False,
) -> JobSeen:
    return JobSeen(seen.name, seen.uid, seen.revision, seen.attempt, report, trouble, running, ended)
