"""The agent as a process of its own on a real API server without nodes.

There is no kubelet: `Kubelet` stands in for it. It sets the status of pods through the API as a kubelet would,
ends self-tests with the report a test asks for, answers for the pods' health documents and asks the agent for traffic
leases the way a serving pod does. Real pods are the matter of tests/e2e.
"""

import asyncio
import base64
import contextlib
import itertools
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import aiohttp
import msgspec
from aiohttp import web
from cryptography import x509
from edgefleet.core import names, rendering
from edgefleet.core.order import Canary, Gates, Mode, ModelRef, Order, Serving, State, Step, to_wire
from edgefleet.kube import errors, kinds
from edgefleet.kube.client import Api, Object
from edgepod.contract import (
    HEALTH_PATH,
    CanaryCounters,
    Counters,
    HealthDocument,
    SelfTestReport,
    TrafficLease,
)
from support.agent_main import POD_NETWORK, where_pods_really_are
from support.cluster import admin, condition, eventually
from support.fake_agent import ca_of, join_token
from support.hub import Shelf

STEPS: Final = (Step(shadow=100, duration="1s"), Step(weight=50, duration="1s"))
ROLE: Final = "edgefleet-site-tests"
PASSED: Final = SelfTestReport(passed=True, samples=10, agreement=1.0)


def revision() -> str:
    """A new revision's name."""
    return secrets.token_hex(5)


def order(bundle: str, **fields: Any) -> Order:
    """An order of model team/digits."""
    settings: dict[str, Any] = {
        "order_version": 1,
        "state": State.RUN,
        "mode": Mode.CANARY,
        "model": ModelRef(namespace="team", name="digits"),
        "revision": fields.pop("revision", None) or revision(),
        "attempt": 1,
        "bundle": bundle,
        "variants": ("int8",),
        "image": "edgepod:test",
        "serving": Serving(),
        "canary": Canary(steps=STEPS, gates=Gates(min_requests=20)),
        "rollout": "digits-1",
        "wave": "rest",
        "offered_at": "2026-01-01T00:00:00Z",
    }
    return Order(**{**settings, **fields})


# -- the agent ---------------------------------------------------------------------------------------------
def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class Agent:
    """`edgefleet-agent` as a process."""

    kubeconfig: Path
    folder: Path
    environment: Mapping[str, str]
    port: int
    pod_port: int
    mortal: bool = False
    """Killed before and after each kind of write, see support/mortal.py."""
    process: subprocess.Popen[bytes] | None = None

    @property
    def log(self) -> Path:
        return self.folder / "agent.log"

    @property
    def deaths(self) -> list[str]:
        record = self.folder / "tmp" / "deaths"
        return record.read_text().splitlines() if record.exists() else []

    def start(self) -> None:
        (self.folder / "tmp").mkdir(exist_ok=True)
        launcher = ["-m", "support.agent_main"]
        if self.mortal:
            launcher = [str(Path(__file__).with_name("mortal.py")), "support.agent_main:main"]
        flags = [
            "--kubeconfig",
            str(self.kubeconfig),
            "--port",
            str(self.port),
            "--pod-port",
            str(self.pod_port),
        ]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, *launcher, *flags],
                env={
                    **os.environ,
                    **self.environment,
                    "TMPDIR": str(self.folder / "tmp"),
                    "PYTHONPATH": os.pathsep.join(
                        (str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", ""))
                    ).rstrip(os.pathsep),
                },
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def kill(self) -> None:
        """SIGKILL: a crash."""
        assert self.process is not None
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def stop(self) -> int:
        """SIGTERM, and wait."""
        assert self.process is not None
        self.process.terminate()
        try:
            return self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.kill()
            raise

    @property
    def resident_mib(self) -> float:
        """Resident memory now."""
        assert self.process is not None
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        line = next(item for item in status.splitlines() if item.startswith("VmRSS"))
        return int(line.split()[1]) / 1024

    def get(self, path: str) -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=5) as answer:
            return str(answer.read().decode())

    def passes(self) -> float:
        """How often it has looked at a model."""
        lines = (
            line for line in self.get("/metrics").splitlines() if line.startswith("edgefleet_passes_total{")
        )
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines)


# -- the pods -----------------------------------------------------------------------------------------------
@dataclass
class Behaviour:
    """What a revision's pods do."""

    selftest: SelfTestReport = PASSED
    selftest_exit: int = 0
    ready: bool = True
    errors: float = 0.0
    """Share of the canary's answers that fail."""


@dataclass
class _Process:
    ip: str
    revision: str
    workload: str
    uid: str
    start_id: str = field(default_factory=lambda: secrets.token_hex(4))


async def beat(api: Api, node: str) -> None:
    """Say that a node lives."""
    now = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    ready = {
        "type": "Ready",
        "status": "True",
        "reason": "Tested",
        "lastHeartbeatTime": now,
        "lastTransitionTime": now,
    }
    await api.merge_patch(kinds.NODE, None, node, {"status": {"conditions": [ready]}}, status=True)


class Kubelet:
    """Makes pods of a namespace ready, and answers for them."""

    def __init__(self, api: Api, namespace: str, agent_port: int, pod_port: int) -> None:
        self.behaviours: dict[str, Behaviour] = {}
        self.otherwise = Behaviour()
        """Of revisions that have no behaviour of their own."""
        self.paused = False
        self.room: int | None = None
        """How many pods the node has memory for, those that are ending included; None: enough."""
        self.callers = 0.0
        """Requests a second each pod says it answers."""
        self._api = api
        self._namespace = namespace
        self._agent = f"http://127.0.0.1:{agent_port}"
        self._port = pod_port
        self._processes: dict[str, _Process] = {}
        self._node = f"node-{namespace}"
        self._numbers = itertools.count(2)
        self._runners: dict[str, web.AppRunner] = {}
        self._session: aiohttp.ClientSession | None = None

    async def run(self) -> None:
        """Work until cancelled. Endpoints want pods on a node that lives."""
        await self._api.create(kinds.NODE, None, {"metadata": {"name": self._node}})
        beats = asyncio.create_task(self._beat())
        self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=2))
        try:
            while True:
                if not self.paused:
                    with contextlib.suppress(errors.NotFound, errors.Conflict):
                        await self._sync()
                await asyncio.sleep(0.1)
        finally:
            beats.cancel()
            for runner in self._runners.values():
                await runner.cleanup()
            await self._session.close()
            await self._api.delete(kinds.NODE, None, self._node, uid=None)

    def _behaviour(self, of: str) -> Behaviour:
        return self.behaviours.setdefault(of, self.otherwise)

    async def _beat(self) -> None:
        while True:
            await beat(self._api, self._node)
            await asyncio.sleep(5)

    async def _sync(self) -> None:
        found = await self._api.list(kinds.POD, self._namespace)
        taken = sum((pod.get("status") or {}).get("phase") == "Running" for pod in found)
        for pod in found:
            labels, name = pod["metadata"]["labels"], pod["metadata"]["name"]
            if "deletionTimestamp" in pod["metadata"]:
                await self._end(pod)
                continue
            if (pod.get("status") or {}).get("containerStatuses"):
                continue
            if self.room is not None and taken >= self.room:
                await self._no_room(name)
                continue
            taken += 1
            if not pod["spec"].get("nodeName"):
                target = {"kind": "Node", "name": self._node}
                body = {"apiVersion": "v1", "kind": "Binding", "metadata": {"name": name}, "target": target}
                await self._api.create(kinds.POD, self._namespace, body, name=name, sub="binding")
            tested = labels.get(rendering.SELFTEST)
            status = self._tested(tested) if tested else await self._serving(pod, labels[names.REVISION])
            if status is not None:
                await self._api.merge_patch(
                    kinds.POD, self._namespace, pod["metadata"]["name"], {"status": status}, status=True
                )

    async def _no_room(self, name: str) -> None:
        """What a scheduler says."""
        condition = {
            "type": "PodScheduled",
            "status": "False",
            "reason": "Unschedulable",
            "message": "0/1 nodes are available: 1 Insufficient memory.",
            "lastTransitionTime": "2026-01-01T00:00:00Z",
        }
        body = {"status": {"conditions": [condition]}}
        await self._api.merge_patch(kinds.POD, self._namespace, name, body, status=True)

    async def _end(self, pod: Object) -> None:
        """What a kubelet does when a container has ended."""
        path = kinds.POD.path(self._namespace, pod["metadata"]["name"])
        now = {"apiVersion": "v1", "kind": "DeleteOptions", "gracePeriodSeconds": 0}
        await self._api.request("DELETE", path, None, now)

    def _tested(self, tested: str) -> Object:
        behaviour = self._behaviour(tested)
        ended = {
            "exitCode": behaviour.selftest_exit,
            "message": behaviour.selftest.to_json().decode(),
            "startedAt": "2026-01-01T00:00:00Z",
            "finishedAt": "2026-01-01T00:00:01Z",
        }
        return {
            "phase": "Failed" if behaviour.selftest_exit else "Succeeded",
            "containerStatuses": [_container({"terminated": ended}, ready=False)],
        }

    async def _serving(self, pod: Object, of: str) -> Object | None:
        if not self._behaviour(of).ready:
            return None
        ip = f"{POD_NETWORK}{next(self._numbers)}"
        workload = pod["metadata"]["name"].rsplit("-", 2)[0]
        self._processes[ip] = _Process(ip, of, workload, pod["metadata"]["uid"])
        await self._listen(ip)
        return {
            "phase": "Running",
            "podIP": ip,
            "podIPs": [{"ip": ip}],
            "conditions": [
                {"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"},
                {"type": "ContainersReady", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"},
            ],
            "containerStatuses": [_container({"running": {"startedAt": "2026-01-01T00:00:00Z"}}, ready=True)],
        }

    async def _listen(self, ip: str) -> None:
        async def health(_: web.Request) -> web.Response:
            return await self._health(ip)

        app = web.Application()
        app.router.add_get(HEALTH_PATH, health)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, where_pods_really_are(ip), self._port).start()
        self._runners[ip] = runner

    async def _health(self, ip: str) -> web.Response:
        process = self._processes[ip]
        lease = await self._lease(process.workload)
        canary = None
        if lease.canary:
            mine = process.workload.rsplit("-", 1)[0]
            other = next(
                (
                    p.revision
                    for p in reversed(self._processes.values())
                    if p.workload != process.workload and p.workload.startswith(mine)
                ),
                "",
            )
            share = self._behaviour(other).errors
            counted = Counters(requests=200, errors=int(200 * share))
            canary = CanaryCounters(step=lease.step, sent=counted, agreed=200)
        document = HealthDocument(
            start_id=process.start_id,
            revision=process.revision,
            ready=True,
            served=Counters(requests=1000 + int(self.callers * time.monotonic())),
            canary=canary,
        )
        return web.Response(body=document.to_json(), content_type="application/json")

    async def _lease(self, workload: str) -> TrafficLease:
        assert self._session is not None
        try:
            async with self._session.get(f"{self._agent}/edgefleet/v1/traffic/{workload}") as answer:
                return TrafficLease.from_json(await answer.read())
        except (aiohttp.ClientError, TimeoutError):
            return TrafficLease(step="", canary="")


def _container(state: Object, *, ready: bool) -> Object:
    return {
        "name": "pod",
        "image": "edgepod:test",
        "imageID": "x",
        "ready": ready,
        "started": ready,
        "restartCount": 0,
        "state": state,
    }


# -- the hub's side ---------------------------------------------------------------------------------------------
class HubSide:
    """One site's namespace on a hub without an operator: the test writes the orders and approves honestly."""

    def __init__(self, api: Api, site: str) -> None:
        self.api = api
        self.site = site
        self.namespace = names.site_namespace(site)
        self.denied = ""
        """Deny requests with this message instead."""

    async def prepare(self) -> None:
        with contextlib.suppress(errors.AlreadyExists):
            await self.api.create(kinds.CLUSTER_ROLE, None, _role())
        await self.api.create(kinds.NAMESPACE, None, {"metadata": {"name": self.namespace}})
        # with a label, as the operator makes it: of an object that began without any field the API server
        # never says who changed it
        lease = {"metadata": {"name": names.LEASE, "labels": {names.SITE: self.site}}, "spec": {}}
        await self.api.create(kinds.LEASE, self.namespace, lease)
        agent = {"metadata": {"name": names.AGENT}, "spec": {"heartbeatInterval": "1s"}}
        await self.api.create(kinds.EDGE_AGENT, self.namespace, agent)
        await self._grant_requests()

    async def _grant_requests(self) -> None:
        """The one cluster-wide grant: to ask for certificates."""
        group = kinds.ROLE_BINDING.group
        rule = {
            "apiGroups": ["certificates.k8s.io"],
            "resources": ["certificatesigningrequests"],
            "verbs": ["create", "get"],
        }
        with contextlib.suppress(errors.AlreadyExists):
            await self.api.create(
                kinds.CLUSTER_ROLE, None, {"metadata": {"name": f"{ROLE}-join"}, "rules": [rule]}
            )
        subjects = [
            {"kind": "Group", "apiGroup": group, "name": f"system:serviceaccounts:{names.JOIN_NAMESPACE}"},
            {"kind": "Group", "apiGroup": group, "name": names.SITES_ORGANIZATION},
        ]
        with contextlib.suppress(errors.AlreadyExists):
            body = {
                "metadata": {"name": f"{ROLE}-join"},
                "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": f"{ROLE}-join"},
                "subjects": subjects,
            }
            await self.api.create(kinds.CLUSTER_ROLE_BINDING, None, body)

    async def token(self, seconds: int = 600) -> str:
        return await join_token(self.api, self.site, seconds=seconds)

    async def bind(self, user: str) -> None:
        group = kinds.ROLE_BINDING.group
        body = {
            "metadata": {"name": "edgefleet-site"},
            "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": ROLE},
            "subjects": [{"kind": "User", "apiGroup": group, "name": user}],
        }
        with contextlib.suppress(errors.AlreadyExists):
            await self.api.create(kinds.ROLE_BINDING, self.namespace, body)

    async def approve(self) -> None:
        """Answer this site's certificate requests, for ever."""
        while True:
            for request in await self.api.list(kinds.CSR):
                mine = request["metadata"]["name"].startswith(f"edgefleet-{self.site}-")
                if mine and not (request.get("status") or {}).get("conditions"):
                    await self._answer(request)
            await asyncio.sleep(0.1)

    async def _answer(self, request: Object) -> None:
        asked = x509.load_pem_x509_csr(base64.b64decode(request["spec"]["request"]))
        user = str(asked.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)[0].value)
        allowed = (f"system:serviceaccount:{names.JOIN_NAMESPACE}:{self.site}", user)
        assert request["spec"]["username"] in allowed
        answer = "Denied" if self.denied else "Approved"
        verdict = {"type": answer, "status": "True", "reason": "Tested", "message": self.denied}
        body = {**request, "status": {"conditions": [verdict]}}
        if not self.denied:
            await self.bind(user)
        await self.api.replace(kinds.CSR, None, request["metadata"]["name"], body, sub="approval")

    async def give(self, wanted: Order | Object) -> Object:
        """Write an order, new or changed."""
        spec = to_wire(wanted) if isinstance(wanted, Order) else wanted
        body = {"metadata": {"name": "team.digits"}, "spec": spec}
        try:
            return await self.api.create(kinds.EDGE_DEPLOYMENT, self.namespace, body)
        except errors.AlreadyExists:
            live = await self.api.get(kinds.EDGE_DEPLOYMENT, self.namespace, "team.digits")
            body["metadata"]["resourceVersion"] = live["metadata"]["resourceVersion"]
            return await self.api.replace(kinds.EDGE_DEPLOYMENT, self.namespace, "team.digits", body)

    async def order(self) -> Object:
        return await self.api.get(kinds.EDGE_DEPLOYMENT, self.namespace, "team.digits")

    async def reported(self, stage: str, reason: str = "", *, seconds: float = 40.0) -> Object:
        """Wait for a report of a stage about the live order; returns it."""

        async def told() -> Object | None:
            live = await self.order()
            status, meta = live.get("status") or {}, live["metadata"]
            about = status.get("order") or {}
            current = (about.get("uid"), about.get("generation")) == (meta["uid"], meta["generation"])
            right = status.get("stage") == stage and (not reason or status.get("reason") == reason)
            return status if current and right else None

        try:
            found: Object = await eventually(told, f"{stage} {reason}", seconds=seconds)
        except AssertionError as error:
            live = await self.order()
            raise AssertionError(
                f"{error}; {live['metadata']['generation']}: {live.get('status')}"
            ) from error
        return found


def _role() -> Object:
    ours = [names.GROUP]
    return {
        "metadata": {"name": ROLE},
        "rules": [
            {"apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "verbs": ["get", "patch"]},
            {"apiGroups": ours, "resources": ["edgeagents"], "verbs": ["get"]},
            {"apiGroups": ours, "resources": ["edgeagents/status"], "verbs": ["patch"]},
            {"apiGroups": ours, "resources": ["edgedeployments"], "verbs": ["get", "list", "watch"]},
            {"apiGroups": ours, "resources": ["edgedeployments/status"], "verbs": ["patch"]},
        ],
    }


class Cable:
    """The way to the hub, as a TCP proxy that can be cut."""

    def __init__(self, server: str) -> None:
        self._target = server.removeprefix("https://").rsplit(":", 1)
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.Task[None]] = set()
        self.port = free_port()
        self.whole = True

    async def lay(self) -> None:
        self._server = await asyncio.start_server(self._carry, "127.0.0.1", self.port)

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    def cut(self) -> None:
        """Nothing passes any more; open connections hang and then break, as on a dead line."""
        self.whole = False
        for task in self._open:
            task.cancel()

    def heal(self) -> None:
        self.whole = True

    async def close(self) -> None:
        self.cut()
        if self._server is not None:
            self._server.close()

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not self.whole:
            writer.transport.abort()
            return
        task = asyncio.current_task()
        assert task is not None
        self._open.add(task)
        try:
            up_reader, up_writer = await asyncio.open_connection(self._target[0], int(self._target[1]))
            await asyncio.gather(_pump(reader, up_writer), _pump(up_reader, writer))
        except (OSError, asyncio.CancelledError):
            writer.transport.abort()
        finally:
            self._open.discard(task)


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(1 << 14):
            writer.write(data)
            await writer.drain()
    finally:
        writer.close()


# -- all together ---------------------------------------------------------------------------------------------------
class SiteLab:
    """A hub's side, a site's namespaces, an agent and the stand-in for the kubelet; all named for one test."""

    def __init__(
        self, hub: Api, site: Api, kubeconfig: Path, shelf: Shelf, folder: Path, name: str = ""
    ) -> None:
        self.id = secrets.token_hex(3)
        self.site_api = site
        self.shelf = shelf
        self.folder = folder
        self.hub = HubSide(hub, name or f"t{self.id}")
        self.models = f"models-{self.id}"
        self.namespace = f"agent-{self.id}"
        self._kubeconfig = kubeconfig
        port, pod_port = free_port(), free_port()
        self.kubelet = Kubelet(site, self.models, port, pod_port)
        self.agent = Agent(kubeconfig, folder, {}, port, pod_port)
        self.cable = Cable(hub.server)

    @classmethod
    @contextlib.asynccontextmanager
    async def open(
        cls,
        hub: Path,
        site: Path,
        shelf: Shelf,
        *,
        mortal: bool = False,
        operator: bool = False,
        name: str = "",
    ) -> AsyncIterator["SiteLab"]:
        """Everything there and the agent about to start; all gone afterwards.

        With `operator` the hub's side is left to a real operator, and the token to the test.
        """
        folder = Path(tempfile.mkdtemp(prefix="edgefleet-agent-"))
        async with admin(hub) as hub_api, admin(site) as site_api:
            lab = cls(hub_api, site_api, site, shelf, folder, name)
            lab.agent.mortal = mortal
            await lab.cable.lay()
            await lab._prepare(operator=operator)
            tasks = [asyncio.create_task(lab.kubelet.run())]
            if not operator:
                tasks.append(asyncio.create_task(lab.hub.approve()))
            try:
                yield lab
            finally:
                if lab.agent.process is not None:
                    lab.agent.kill()
                    print(lab.agent.log.read_text())  # shown by pytest when the test failed
                for task in tasks:
                    task.cancel()
                ended = await asyncio.gather(*tasks, return_exceptions=True)
                print("stand-ins ended with", ended)
                await lab.cable.close()
                await lab._clear()
                shutil.rmtree(folder)

    async def _prepare(self, *, operator: bool) -> None:
        for name in (self.models, self.namespace):
            await self.site_api.create(kinds.NAMESPACE, None, {"metadata": {"name": name}})
        token = self.folder / "token"
        if not operator:
            await self.hub.prepare()
            token.write_text(await self.hub.token())
        ca = self.folder / "hub-ca.crt"
        ca.write_bytes(ca_of(await self.hub.api.connection()))
        self.agent.environment = {
            "EDGEFLEET_HUB_SERVER": self.cable.url,
            "EDGEFLEET_HUB_CA": str(ca),
            "EDGEFLEET_SITE": self.hub.site,
            "EDGEFLEET_JOIN_TOKEN_FILE": str(token),
            "EDGEFLEET_TRUST": str(self.shelf.trust),
            "EDGEFLEET_STORE": str(self.folder / "store"),
            "EDGEFLEET_NAMESPACE": self.namespace,
            "EDGEFLEET_MODELS_NAMESPACE": self.models,
            "EDGEFLEET_PLAIN_HTTP_REGISTRIES": self.shelf.server.host,
            "EDGEFLEET_AGENT_URL": f"http://127.0.0.1:{self.agent.port}",
        }

    async def _clear(self) -> None:
        for api, name in (
            (self.site_api, self.models),
            (self.site_api, self.namespace),
            (self.hub.api, self.hub.namespace),
        ):
            with contextlib.suppress(errors.NotFound):
                await api.delete(kinds.NAMESPACE, None, name, uid=None)

    # -- what tests ask -----------------------------------------------------------------------------------------
    @property
    def journal(self) -> dict[str, Any]:
        found: dict[str, Any] = msgspec.json.decode((self.folder / "store" / "journal.json").read_bytes())
        return found

    async def selected(self) -> str:
        """The revision the Service selects."""
        service = await self.site_api.get(kinds.SERVICE, self.models, "team-digits")
        return str(service["spec"]["selector"][names.REVISION])

    async def deployments(self) -> list[str]:
        """Revisions that have a Deployment."""
        found = await self.site_api.list(kinds.DEPLOYMENT, self.models)
        return sorted(item["metadata"]["labels"][names.REVISION] for item in found)

    async def only(self, wanted: str) -> bool:
        """Whether this revision alone has a Deployment."""
        return await self.deployments() == [wanted]

    async def mirror(self) -> Object:
        return await self.site_api.get(kinds.EDGE_DEPLOYMENT, self.models, "team.digits")

    async def own_status(self) -> Object:
        """What `kubectl get edgeagent` shows at the site."""
        found = await self.site_api.get(kinds.EDGE_AGENT, self.models, names.AGENT)
        return found if found.get("status") else {}

    async def says(self, kind: str, status: str, reason: str) -> Object:
        """Wait for a condition of the agent, seen at the site."""

        async def said() -> Object | None:
            found = condition(await self.own_status(), kind)
            return found if (found.get("status"), found.get("reason")) == (status, reason) else None

        found: Object = await eventually(said, f"{kind}={status} {reason}", seconds=45.0)
        return found

    async def joined(self) -> Object:
        """Wait until the agent has told its hub what it is."""

        async def told() -> Object | None:
            live = await self.hub.api.get(kinds.EDGE_AGENT, self.hub.namespace, names.AGENT)
            return live if condition(live, "Joined").get("status") == "True" else None

        found: Object = await eventually(told, "the site has joined", seconds=90.0)
        return found

    async def policy(self, **spec: Any) -> Object:
        """The hub changes the site's policy, and the site has taken note; None takes a field away."""
        live = await self.hub.api.merge_patch(
            kinds.EDGE_AGENT, self.hub.namespace, names.AGENT, {"spec": spec}
        )
        mark = {"metadata": {"annotations": {names.FINGERPRINT: f"changed-{secrets.token_hex(4)}"}}}
        await self.hub.api.merge_patch(kinds.LEASE, self.hub.namespace, names.LEASE, mark)

        async def noted() -> Object | None:
            found = await self.hub.api.get(kinds.EDGE_AGENT, self.hub.namespace, names.AGENT)
            known = (found.get("status") or {}).get("observedGeneration") == live["metadata"]["generation"]
            return found if known else None

        found: Object = await eventually(noted, "the site knows its policy", seconds=60)
        return found

    async def served(self, **fields: Any) -> Order:
        """Have a new bundle ordered and served."""
        wanted = order(await self.shelf.bundle(), **fields)
        await self.hub.give(wanted)
        await self.hub.reported("Serving", "Serving")
        return wanted
