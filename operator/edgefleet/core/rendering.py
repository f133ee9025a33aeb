"""Manifests of everything a site runs for one model: two Services, one Deployment per revision, a self-test Job.

Nothing in a pod says stable or canary. What a revision's template holds comes from its order and its verified
bundle alone, so a new agent or chart never changes the template of a running pod.
"""

from typing import Any, Final

from edgefleet.core import names, units
from edgefleet.core.local import NOTHING, Manifest, Place
from edgefleet.core.local_record import Staged
from edgefleet.core.order import Order

SELFTEST: Final = "edgefleet.dev/selftest"
"""On a self-test's pod instead of the model's label: the Service must never select it."""
ATTEMPT: Final = "edgefleet.dev/attempt"
BUNDLE: Final = "edgefleet.dev/bundle"
BUNDLE_VERSION: Final = "edgefleet.dev/bundle-version"
VARIANT: Final = "edgefleet.dev/variant"

PORT: Final = 8080
NAME_LIMIT: Final = 63
"""Characters of a Job's name and of a label; the self-test's is the longest of a model's names."""
GRACE_SECONDS: Final = 40
"""30 s of draining, and what comes before and after it."""
SELFTEST_FETCH: Final = 60.0
"""Seconds a self-test may take to get its files from the site's store; then the store is at fault."""
_LONGEST: Final = 86400.0
"""Seconds; the pod takes no longer timeout."""
_USER: Final = 65532


def deployment_name(namespace: str, model: str, revision: str) -> str:
    """Name of a revision's Deployment."""
    return f"{names.workload_name(namespace, model)}-{revision}"


def canary_service_name(namespace: str, model: str) -> str:
    """Name of the Service in front of the canary's pods."""
    return f"{names.workload_name(namespace, model)}-canary"


def selftest_name(namespace: str, model: str, revision: str) -> str:
    """Name of a revision's self-test Job."""
    return f"{deployment_name(namespace, model, revision)}-selftest"


def labels(namespace: str, model: str) -> dict[str, str]:
    """Labels of every object of a model; what lacks them is not ours and never touched."""
    return {names.MANAGED_BY: names.AGENT_MANAGER, names.MODEL: names.order_name(namespace, model)}


def selector(namespace: str, model: str, revision: str) -> dict[str, str]:
    """Labels that select the pods of one revision."""
    return {names.MODEL: names.order_name(namespace, model), names.REVISION: revision}


def service(
    place: Place, namespace: str, model: str, revision: str = NOTHING, *, canary: bool = False
) -> Manifest:
    """Render the Service callers use, or the one the serving pods reach the canary through."""
    name = canary_service_name(namespace, model) if canary else names.workload_name(namespace, model)
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": place.namespace, "labels": labels(namespace, model)},
        "spec": {
            "selector": selector(namespace, model, revision),
            "ports": [{"name": "http", "port": 80, "targetPort": PORT, "protocol": "TCP"}],
        },
    }


def select(namespace: str, model: str, revision: str) -> Manifest:
    """Render the merge patch that makes a Service select a revision: the commit point."""
    return {"spec": {"selector": selector(namespace, model, revision)}}


def scale(replicas: int) -> Manifest:
    """Render the merge patch for a number of replicas."""
    return {"spec": {"replicas": replicas}}


def deployment(place: Place, order: Order, staged: Staged, replicas: int) -> Manifest:
    """Render the Deployment of a revision."""
    namespace, model = order.model.namespace, order.model.name
    name = deployment_name(namespace, model, order.revision)
    selected = selector(namespace, model, order.revision)
    marks = {**labels(namespace, model), names.REVISION: order.revision}
    arguments = ["serve", *_source(place, staged), "--agent", place.agent_url, "--workload", name]
    container = {
        **_container(order, "pod", arguments),
        "ports": [{"name": "http", "containerPort": PORT, "protocol": "TCP"}],
        "startupProbe": _probe("/v2/health/live", period=1, failures=120),
        "livenessProbe": _probe("/v2/health/live", period=10, failures=6),
        "readinessProbe": _probe("/v2/health/ready", period=1, failures=3),
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {
            "name": name,
            "namespace": place.namespace,
            "labels": marks,
            "annotations": {
                ATTEMPT: str(order.attempt),
                BUNDLE: staged.bundle,
                BUNDLE_VERSION: str(staged.version),
                VARIANT: staged.variant,
            },
        },
        "spec": {
            "replicas": replicas,
            "revisionHistoryLimit": 0,
            "progressDeadlineSeconds": 2**31 - 1,  # the agent judges progress itself
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
            "selector": {"matchLabels": selected},
            "template": {
                "metadata": {"labels": marks},
                "spec": _pod_spec(container, place.serving_priority, "Always"),
            },
        },
    }


def selftest_seconds(order: Order) -> float:
    """Seconds a self-test that runs is waited for: it reports its own timeout before that."""
    return _selftest_timeout(order) + SELFTEST_FETCH + 15


def _selftest_timeout(order: Order) -> float:
    return min(_LONGEST, max(1.0, units.duration(order.canary.progress_deadline)))


def selftest(place: Place, order: Order, staged: Staged) -> Manifest:
    """Render the Job that runs the golden set once, for progressDeadline at most. It ends itself if the agent cannot."""
    namespace, model = order.model.namespace, order.model.name
    arguments = [
        "selftest",
        *_source(place, staged),
        "--timeout",
        f"{_selftest_timeout(order):.0f}",
        "--fetch-timeout",
        f"{SELFTEST_FETCH:.0f}",
        "--min-agreement",
        f"{units.share(order.canary.gates.min_golden):g}",
    ]
    marks = {**labels(namespace, model), SELFTEST: order.revision, ATTEMPT: str(order.attempt)}
    container = {
        **_container(order, "selftest", arguments),
        "terminationMessagePath": "/dev/termination-log",
        "terminationMessagePolicy": "File",
    }
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": selftest_name(namespace, model, order.revision),
            "namespace": place.namespace,
            "labels": marks,
        },
        "spec": {
            "backoffLimit": 0,
            "completions": 1,
            "parallelism": 1,
            "activeDeadlineSeconds": int(selftest_seconds(order)) + 60,
            "template": {
                "metadata": {"labels": {names.MANAGED_BY: names.AGENT_MANAGER, SELFTEST: order.revision}},
                "spec": _pod_spec(container, place.selftest_priority, "Never"),
            },
        },
    }


def _source(place: Place, staged: Staged) -> list[str]:
    return ["--store", place.store_url, "--serving", staged.serving, "--cache", "/model"]


def _container(order: Order, name: str, arguments: list[str]) -> dict[str, Any]:
    resources = order.serving.resources
    return {
        "name": name,
        "image": order.image,
        "imagePullPolicy": "IfNotPresent",
        "args": arguments,
        "resources": _resources(resources.requests, resources.limits),
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
            "runAsNonRoot": True,
            "runAsUser": _USER,
            "runAsGroup": _USER,
        },
        "volumeMounts": [{"name": "model", "mountPath": "/model"}, {"name": "tmp", "mountPath": "/tmp"}],  # noqa: S108  a path in the pod
    }


def _resources(requests: dict[str, str], limits: dict[str, str]) -> dict[str, Any]:
    """Memory request = limit: a newcomer that outgrows what it asked for ends itself, not its neighbours."""
    asked = dict(requests)
    if "memory" in limits:
        asked["memory"] = limits["memory"]
    return {key: value for key, value in (("requests", asked), ("limits", dict(limits))) if value}


def _probe(path: str, *, period: int, failures: int) -> dict[str, Any]:
    return {
        "httpGet": {"path": path, "port": "http", "scheme": "HTTP"},
        "periodSeconds": period,
        "timeoutSeconds": 5,
        "failureThreshold": failures,
    }


def _pod_spec(container: dict[str, Any], priority: str, restart: str) -> dict[str, Any]:
    spec: dict[str, Any] = {
        "restartPolicy": restart,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": GRACE_SECONDS if restart == "Always" else 5,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": _USER,
            "runAsGroup": _USER,
            "fsGroup": _USER,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [container],
        "volumes": [{"name": "model", "emptyDir": {}}, {"name": "tmp", "emptyDir": {}}],
    }
    if priority:
        spec["priorityClassName"] = priority
    return spec
