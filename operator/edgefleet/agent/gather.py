"""Everything one pass looks at: read from the site's API server anew each time, so a pass never acts on old news."""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from edgefleet.core import local_observe, names, rendering
from edgefleet.core.local import Endpoint, LocalSeen, PodSeen, ServiceSeen
from edgefleet.core.local_record import Record
from edgefleet.kube import kinds
from edgefleet.kube.client import Api, Object

_SERVICE_OF = "kubernetes.io/service-name"
_JOB_OF = "batch.kubernetes.io/job-name"


@dataclass(frozen=True, slots=True)
class Cluster:
    """The models' namespace as it was a moment ago."""

    services: tuple[Object, ...]
    deployments: tuple[Object, ...]
    jobs: tuple[Object, ...]
    pods: tuple[Object, ...]
    slices: tuple[Object, ...]


async def cluster(api: Api, namespace: str) -> Cluster:
    """Read the models' namespace. Raises ApiError."""
    wanted = (kinds.SERVICE, kinds.DEPLOYMENT, kinds.JOB, kinds.POD, kinds.ENDPOINT_SLICE)
    found = await asyncio.gather(*(api.list(kind, namespace) for kind in wanted))
    return Cluster(*(tuple(items) for items in found))


def seen(found: Cluster, namespace: str, model: str, record: Record, **more: Any) -> LocalSeen:
    """Pick out what belongs to one model."""

    def mine(items: Iterable[Object]) -> list[Object]:
        return [item for item in items if local_observe.ours(item, namespace, model)]

    key = names.order_name(namespace, model)
    pods = [
        local_observe.pod(item)
        for item in found.pods
        if (item["metadata"].get("labels") or {}).get(names.MODEL) == key
    ]
    service, canary = names.workload_name(namespace, model), rendering.canary_service_name(namespace, model)
    return LocalSeen(
        namespace=namespace,
        model=model,
        record=record,
        service=_service(found, service, namespace, model),
        canary_service=_service(found, canary, namespace, model),
        deployments=tuple(local_observe.deployment(item) for item in mine(found.deployments)),
        pods=tuple(pod for pod in pods if pod is not None),
        jobs=tuple(local_observe.job(item, _pods_of(found, item)) for item in mine(found.jobs)),
        endpoints=_endpoints(found, service),
        canary_endpoints=_endpoints(found, canary),
        **more,
    )


def worth_asking(found: LocalSeen) -> list[PodSeen]:
    """Return the pods whose health documents matter now."""
    return [pod for pod in found.pods if not pod.terminating and pod.ip]


def _service(found: Cluster, name: str, namespace: str, model: str) -> ServiceSeen | None:
    for item in found.services:
        if item["metadata"]["name"] == name:
            return local_observe.service(item, namespace, model)
    return None


def _pods_of(found: Cluster, job: Object) -> list[Object]:
    """Return a Job's own pods, not those of an earlier Job of its name."""
    uid = job["metadata"]["uid"]
    return [
        item
        for item in found.pods
        if (item["metadata"].get("labels") or {}).get(_JOB_OF) == job["metadata"]["name"]
        and any(owner.get("uid") == uid for owner in item["metadata"].get("ownerReferences") or ())
    ]


def _endpoints(found: Cluster, service: str) -> tuple[Endpoint, ...]:
    return local_observe.endpoints(
        item for item in found.slices if (item["metadata"].get("labels") or {}).get(_SERVICE_OF) == service
    )
