"""One stand-in for the kubelets of many small clusters that share an API server, each in a namespace of its own.

It binds pods, makes them ready, ends self-tests with the report a plan asks for, answers for the pods' health documents and
asks the sites' agents for traffic leases as serving pods do. Driven by a watch, unlike the one of `support.agents`.
"""

import asyncio
import contextlib
import itertools
import secrets
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import aiohttp
from aiohttp import web
from edgefleet.core import names, rendering
from edgefleet.kube import errors, kinds
from edgefleet.kube.client import Api, Object
from edgefleet.kube.watching import Watcher
from edgepod.contract import HEALTH_PATH, CanaryCounters, Counters, HealthDocument, TrafficLease
from support.agents import Behaviour, _container, beat
from support.many_agents import POD_NETWORK, where_pods_really_are

_WORKERS: Final = 8
_EPOCH: Final = "2026-01-01T00:00:00Z"

Fate = Callable[[str, str], Awaitable[Behaviour]]
"""What becomes of a revision in a namespace."""


@dataclass
class _Pod:
    namespace: str
    revision: str
    workload: str
    start_id: str = field(default_factory=lambda: secrets.token_hex(4))


class Node:
    """Works until cancelled."""

    def __init__(self, api: Api, agents: Mapping[str, int], fate: Fate, port: int) -> None:
        """`agents`: namespaces it cares for, with the port of the agent of each; `port`: of all pods."""
        self._api = api
        self._agents = agents
        self._fate = fate
        self._port = port
        self._name = f"node-{secrets.token_hex(3)}"
        self._latest: dict[tuple[str, str], Object] = {}
        self._due: asyncio.Queue[tuple[str, str]] = asyncio.Queue()
        self._pods: dict[str, _Pod] = {}
        self._numbers = itertools.count(2)
        self._session: aiohttp.ClientSession | None = None

    async def run(self) -> None:
        await self._api.create(kinds.NODE, None, {"metadata": {"name": self._name}})
        app = web.Application()
        app.router.add_get(HEALTH_PATH, self._health)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        # all of 127.0.0.0/8: which pod is asked the address says
        await web.TCPSite(runner, "0.0.0.0", self._port).start()
        self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=2))
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._beat())
                group.create_task(Watcher(self._api, kinds.POD, self._hear).run())
                for _ in range(_WORKERS):
                    group.create_task(self._work())
        finally:
            await self._session.close()
            await runner.cleanup()
            await self._api.delete(kinds.NODE, None, self._name, uid=None)

    async def _beat(self) -> None:
        """Endpoints want pods on a node that lives."""
        while True:
            with contextlib.suppress(errors.ApiError):
                await beat(self._api, self._name)
            await asyncio.sleep(5)

    def _hear(self, event: str, pod: Object) -> None:
        meta = pod.get("metadata") or {}
        if meta.get("namespace") not in self._agents:
            return
        key = (meta["namespace"], meta["name"])
        if event == "DELETED":
            self._latest.pop(key, None)
        else:
            self._latest[key] = pod
            self._due.put_nowait(key)

    async def _work(self) -> None:
        while True:
            key = await self._due.get()
            pod = self._latest.get(key)
            if pod is None:
                continue
            try:
                await self._treat(*key, pod)
            except (errors.NotFound, errors.Conflict):
                continue
            except errors.ApiError:
                await asyncio.sleep(0.5)
                self._due.put_nowait(key)

    async def _treat(self, namespace: str, name: str, pod: Object) -> None:
        if "deletionTimestamp" in pod["metadata"]:
            now = {"apiVersion": "v1", "kind": "DeleteOptions", "gracePeriodSeconds": 0}
            await self._api.request("DELETE", kinds.POD.path(namespace, name), None, now)
            return
        if (pod.get("status") or {}).get("containerStatuses"):
            return
        if not pod["spec"].get("nodeName"):
            target = {"kind": "Node", "name": self._name}
            body = {"apiVersion": "v1", "kind": "Binding", "metadata": {"name": name}, "target": target}
            await self._api.create(kinds.POD, namespace, body, name=name, sub="binding")
        labels = pod["metadata"]["labels"]
        revision = labels.get(rendering.SELFTEST) or labels[names.REVISION]
        behaviour = await self._fate(namespace, revision)
        if rendering.SELFTEST in labels:
            status = _tested(behaviour)
        elif behaviour.ready:
            status = self._serving(namespace, name, revision)
        else:
            return
        await self._api.merge_patch(kinds.POD, namespace, name, {"status": status}, status=True)

    def _serving(self, namespace: str, name: str, revision: str) -> Object:
        number = next(self._numbers)
        ip = f"{POD_NETWORK}{number // 250}.{number % 250 + 1}"
        self._pods[where_pods_really_are(ip)] = _Pod(namespace, revision, name.rsplit("-", 2)[0])
        ready = [
            {"type": kind, "status": "True", "lastTransitionTime": _EPOCH}
            for kind in ("Ready", "ContainersReady")
        ]
        return {
            "phase": "Running",
            "podIP": ip,
            "podIPs": [{"ip": ip}],
            "conditions": ready,
            "containerStatuses": [_container({"running": {"startedAt": _EPOCH}}, ready=True)],
        }

    async def _health(self, request: web.Request) -> web.Response:
        assert request.transport is not None
        pod = self._pods[request.transport.get_extra_info("sockname")[0]]
        lease = await self._lease(pod)
        canary = None
        if lease.canary:
            behaviour = await self._fate(pod.namespace, self._canary_of(pod))
            counted = Counters(requests=200, errors=int(200 * behaviour.errors))
            canary = CanaryCounters(step=lease.step, sent=counted, agreed=200)
        document = HealthDocument(
            start_id=pod.start_id,
            revision=pod.revision,
            ready=True,
            served=Counters(requests=1000),
            canary=canary,
        )
        return web.Response(body=document.to_json(), content_type="application/json")

    def _canary_of(self, pod: _Pod) -> str:
        """The newest other revision of the same model there."""
        mine = pod.workload.rsplit("-", 1)[0]
        return next(
            (
                other.revision
                for other in reversed(self._pods.values())
                if other.namespace == pod.namespace
                and other.workload != pod.workload
                and other.workload.startswith(mine)
            ),
            pod.revision,
        )

    async def _lease(self, pod: _Pod) -> TrafficLease:
        assert self._session is not None
        url = f"http://127.0.0.1:{self._agents[pod.namespace]}/edgefleet/v1/traffic/{pod.workload}"
        try:
            async with self._session.get(url) as answer:
                return TrafficLease.from_json(await answer.read())
        except (aiohttp.ClientError, TimeoutError):
            return TrafficLease(step="", canary="")


def _tested(behaviour: Behaviour) -> Object:
    ended: dict[str, Any] = {
        "exitCode": behaviour.selftest_exit,
        "message": behaviour.selftest.to_json().decode(),
        "startedAt": _EPOCH,
        "finishedAt": "2026-01-01T00:00:01Z",
    }
    return {
        "phase": "Failed" if behaviour.selftest_exit else "Succeeded",
        "containerStatuses": [_container({"terminated": ended}, ready=False)],
    }
