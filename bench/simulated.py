"""One site as its hub sees it: the requests of an agent, without store, pods and journal behind them.

`tests/cluster/simulated_site_test.py` holds it against the real agent, request by request.
"""

import asyncio
import contextlib
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

import msgspec
from edgefleet.agent.keeping import QUIET
from edgefleet.core import conditions, names, parse, units
from edgefleet.core.fingerprint import fingerprint
from edgefleet.core.order import (
    CanaryProgress,
    Condition,
    Download,
    Mode,
    Order,
    OrderIdentity,
    Report,
    SelfTest,
    Stage,
    State,
    parse_order,
    to_wire,
)
from edgefleet.core.order import Traffic as Served
from edgefleet.kube import apply, kinds
from edgefleet.kube.client import PAGE, Object

from bench.lines import Lines, LinkError, RefusedError

SETTLE: Final = 2.0
"""Seconds the agent waits before it says anew what it is: several reasons come together."""
_AGENT_EVERY: Final = 3600.0
_WATCH: Final = (1800, 3600)
_RETRY: Final = 2.0
_LONGEST_RETRY: Final = 30.0
_FEATURES: Final = ["asimd", "asimddp", "asimdhp", "asimdrdm", "bf16", "fphp", "i8mm"]

jitter = random.Random(1)


@dataclass(frozen=True, slots=True)
class Nature:
    """How a simulated site is, and whom it tells."""

    stage: float = 1.0
    """Mean seconds in each stage of an order."""
    fails: float = 0.0
    """Share of orders whose self-test fails."""
    ordered: Callable[[str], None] = lambda _site: None
    """Called when an order arrives that was not known."""
    served: Callable[[str], None] = lambda _site: None
    """Called when an order has been carried out and reported."""
    beat: Callable[[float], None] = lambda _seconds: None
    """Called with the time a beat took."""
    trouble: Callable[[str], None] = lambda _what: None


@dataclass(slots=True)
class _Held:
    """An order, and what was reported on it."""

    live: Object
    report: Report = field(default_factory=Report)
    revision: str = ""
    """That serves."""
    bundle: str = ""
    previous: str = ""
    task: "asyncio.Task[None] | None" = None


class SimulatedSite:
    """Everything a hub hears of one joined site. `run` never returns."""

    def __init__(self, name: str, key: str, lines: Lines, nature: Nature) -> None:
        """`key` is the SHA-256 of the public key, hex."""
        self.name = name
        self._key = key
        self._lines = lines
        self._nature = nature
        self._namespace = names.site_namespace(name)
        self._orders: dict[str, _Held] = {}
        self._policy: Object = {}
        self._generation = 0
        self._told: tuple[Condition, ...] = ()
        self._synced = False
        self._heard = False
        self._version = ""
        self._agent_now = asyncio.Event()
        self._relist = asyncio.Event()

    async def run(self) -> None:
        """Hold the link."""
        try:
            async with asyncio.TaskGroup() as group:
                for work in (self._beats(), self._watch(), self._tell(), self._keep_open()):
                    group.create_task(work)
        finally:
            for held in self._orders.values():
                if held.task is not None:
                    held.task.cancel()
            self._lines.close()

    # -- beats -----------------------------------------------------------------------------------------
    async def _beats(self) -> None:
        pause = _RETRY
        loop = asyncio.get_running_loop()
        while True:
            began = loop.time()
            seconds = max(1, int(self._interval * 3))
            spec = {"holderIdentity": self.name, "renewTime": _now(), "leaseDurationSeconds": seconds}
            try:
                lease = await self._patch(
                    "lease", kinds.LEASE.path(self._namespace, names.LEASE), {"spec": spec}
                )
            except LinkError as error:
                self._nature.trouble(f"beat {error}"[:60])
                pause = min(_LONGEST_RETRY, pause * 2)
                await asyncio.sleep(pause * jitter.uniform(0.7, 1.0))
                continue
            pause = _RETRY
            self._nature.beat(loop.time() - began)
            if not self._heard:
                self._heard = True
                self._agent_now.set()
            await self._compare(lease)
            await asyncio.sleep(self._interval * jitter.uniform(0.95, 1.0))

    @property
    def _interval(self) -> float:
        return units.duration(self._policy.get("heartbeatInterval", "120s"))

    async def _compare(self, lease: Object) -> None:
        told = (lease["metadata"].get("annotations") or {}).get(names.FINGERPRINT)
        if told is None or not self._synced or told == self._fingerprint():
            return
        with contextlib.suppress(LinkError):
            await self._read_policy()
            self._agent_now.set()
            if told != self._fingerprint():
                self._relist.set()

    def _fingerprint(self) -> str:
        return fingerprint((parse.meta(held.live) for held in self._orders.values()), self._generation)

    async def _keep_open(self) -> None:
        while True:
            left = QUIET - self._lines.quiet
            if left <= 0:
                with contextlib.suppress(LinkError):
                    await self._lines.call("keep", "GET", "/livez", plain=True)
                left = QUIET
            await asyncio.sleep(left)

    # -- what the site is ------------------------------------------------------------------------------
    async def _read_policy(self) -> Object:
        path = kinds.EDGE_AGENT.path(self._namespace, names.AGENT)
        found = await self._lines.call("get edgeagents", "GET", path)
        self._policy, self._generation = found.get("spec") or {}, found["metadata"]["generation"]
        return found

    async def _tell(self) -> None:
        while True:
            self._agent_now.clear()
            try:
                live = await self._read_policy()
                with contextlib.suppress(RefusedError):  # 404: the hub has no credential for the registry
                    await self._lines.call(
                        "get secrets", "GET", kinds.SECRET.path(self._namespace, "registry")
                    )
                patch = apply.difference(live.get("status") or {}, self._describe(), prune=True)
                if patch:
                    path = kinds.EDGE_AGENT.path(self._namespace, names.AGENT, "status")
                    await self._patch("edgeagents", path, _versioned(live, patch))
            except LinkError as error:
                self._nature.trouble(f"agent {error}"[:60])
                await asyncio.sleep(_RETRY * jitter.uniform(1.4, 2.0))
                continue
            try:
                async with asyncio.timeout(_AGENT_EVERY):
                    await self._agent_now.wait()
                await asyncio.sleep(SETTLE)
            except TimeoutError:
                pass

    def _describe(self) -> Object:
        now = datetime.now(UTC)
        states = {
            **conditions.ready("Running", ""),
            "Joined": (conditions.TRUE, "Linked", ""),
        }
        self._told = conditions.build(states, self._told, self._generation, now)
        return {
            "observedGeneration": self._generation,
            "agentVersion": "0.1.0",
            "understands": [names.ORDER_VERSION],
            "inventory": {
                "arch": "arm64",
                "cpuFeatures": _FEATURES,
                "cpus": 4,
                "memoryBytes": 4 << 30,
                "diskBytes": 64 << 30,
                "diskFreeBytes": 48 << 30,
            },
            "orphans": [],
            "storeBytes": 0,
            "conditions": [to_wire(item) for item in self._told],
            "kubernetesVersion": "v1.36.3",
            "windows": {"download": True, "update": True},
            "clockSkewSeconds": 0.0,
            "publicKeySHA256": self._key,
        }

    # -- orders ----------------------------------------------------------------------------------------
    async def _watch(self) -> None:
        pause = 1.0
        while True:
            try:
                if not self._version:
                    await self._list()
                await self._follow()
                pause = 1.0
            except LinkError as error:
                if isinstance(error, RefusedError):
                    self._version = ""
                self._nature.trouble(f"watch {error}"[:60])
                await asyncio.sleep(pause * jitter.uniform(0.5, 1.0))
                pause = min(20.0, pause * 2)

    async def _list(self) -> None:
        path = kinds.EDGE_DEPLOYMENT.path(self._namespace)
        page = await self._lines.call("list edgedeployments", "GET", path, limit=str(PAGE))
        listed = {item["metadata"]["name"] for item in page["items"]}
        for gone in self._orders.keys() - listed:
            del self._orders[gone]
        for item in page["items"]:
            self._take(item)
        self._version = page["metadata"]["resourceVersion"]
        self._synced = True
        self._agent_now.set()

    async def _follow(self) -> None:
        path = kinds.EDGE_DEPLOYMENT.path(self._namespace)
        seconds = str(jitter.randint(*_WATCH))
        follow = asyncio.ensure_future(self._events(path, seconds))
        again = asyncio.ensure_future(self._relist.wait())
        try:
            await asyncio.wait((follow, again), return_when=asyncio.FIRST_COMPLETED)
            if self._relist.is_set():
                self._relist.clear()
                self._version = ""
            else:
                await follow
        finally:
            for task in (follow, again):
                task.cancel()
            await asyncio.gather(follow, again, return_exceptions=True)

    async def _events(self, path: str, seconds: str) -> None:
        query = {"resourceVersion": self._version, "timeoutSeconds": seconds}
        async for event in self._lines.watch(path, **query):
            item = event["object"]
            if event["type"] == "ERROR":
                raise RefusedError(int(item.get("code") or 500), str(item.get("message")))
            if event["type"] == "DELETED":
                self._orders.pop(item["metadata"]["name"], None)
                self._agent_now.set()
            else:
                self._take(item)
            self._version = item["metadata"]["resourceVersion"]

    def _take(self, item: Object) -> None:
        name, meta = item["metadata"]["name"], item["metadata"]
        held = self._orders.get(name)
        if held is None:
            held = self._orders[name] = _Held(item)
        elif held.live["metadata"]["uid"] == meta["uid"] and _older(meta, held.live["metadata"]):
            return
        held.live = item
        identity = OrderIdentity(uid=meta["uid"], generation=meta["generation"])
        if held.report.order == identity:
            return
        self._nature.ordered(self.name)
        if held.task is not None:
            held.task.cancel()
        held.task = asyncio.create_task(self._obey(held, parse_order(item["spec"]), identity))

    # -- what becomes of an order ----------------------------------------------------------------------
    async def _obey(self, held: _Held, order: Order, identity: OrderIdentity) -> None:
        held.report = msgspec.structs.replace(
            held.report, order=identity, observed_generation=identity.generation
        )
        if order.state is not State.RUN:
            await self._say(held, Stage.REMOVED, order.state.value)
        elif held.revision == order.revision:
            await self._say(held, Stage.SERVING, "Serving")
        else:
            await self._install(held, order)
        self._nature.served(self.name)

    async def _install(self, held: _Held, order: Order) -> None:
        """The stages of a real agent, each reported when it begins."""
        if not held.revision:
            await self._say(held, Stage.PENDING, "Restoring", message="the Service is missing")
        got = Download(done=15, total=15)
        await self._say(held, Stage.DOWNLOADING, "Downloading", download=None, self_test=None, message="")
        await self._say(held, Stage.STAGED, "Verified", download=got, variant="int8", wait=True)
        await self._say(held, Stage.SELF_TESTING, "SelfTesting")
        tested = SelfTest(
            revision=order.revision, passed=True, agreement=1.0, p50_ms=0.4, p99_ms=0.9, peak_mib=41.0
        )
        await self._say(held, Stage.STAGED, "Starting", self_test=tested, wait=True)
        if order.mode is Mode.CANARY and held.revision:
            await self._canary(held, order)
        previous = {"previous_revision": held.revision} if held.revision else {}
        await self._say(held, Stage.STAGED, "Promoting", canary=None, message="", wait=True, **previous)
        held.previous, held.revision = held.revision, order.revision
        held.bundle = order.bundle.rpartition("@")[2]
        serving = {
            "active_revision": held.revision,
            "active_bundle": held.bundle,
            "active_version": held.report.active_version + 1,
            "traffic": Served(requests=1000, p50_ms=0.4, p99_ms=0.9),
        }
        await self._say(held, Stage.SERVING, "CleaningUp", wait=True, **serving)
        await self._say(held, Stage.SERVING, "Serving")

    async def _canary(self, held: _Held, order: Order) -> None:
        steps = order.canary.steps
        for index, step in enumerate(steps):
            at = CanaryProgress(step=index, steps=len(steps), shadow=step.shadow, weight=step.weight)
            text = "200 requests, 0 bad"
            seen = msgspec.structs.replace(at, requests=200, agreement=1.0, message=text)
            await self._say(held, Stage.CANARY, "Starting", canary=at, message="")
            await self._say(held, Stage.CANARY, "Step")
            await self._say(held, Stage.CANARY, "StepPassed", canary=seen, message=text, wait=True)

    async def _say(
        self, held: _Held, stage: Stage, reason: str, *, wait: bool = False, **fields: Any
    ) -> None:
        """Report a stage, until it has arrived; `wait`: after the time the stage before it took."""
        if wait:
            await asyncio.sleep(self._nature.stage * jitter.uniform(0.5, 1.5))
        message = fields.get("message", held.report.message)
        if stage is Stage.SERVING and reason == "Serving":
            states = conditions.ready(reason, message)
        elif stage is Stage.REMOVED:
            states = dict.fromkeys(conditions.stalled("", ""), (conditions.FALSE, reason, message))
        else:
            states = conditions.reconciling(reason, message)
        now = datetime.now(UTC)
        generation = held.report.observed_generation
        held.report = msgspec.structs.replace(
            held.report,
            stage=stage,
            reason=reason,
            conditions=conditions.build(states, held.report.conditions, generation, now),
            reported_at=units.timestamp(now),
            **fields,
        )
        await self._send(held)

    async def _send(self, held: _Held) -> None:
        pause = _RETRY
        while True:
            patch = apply.difference(held.live.get("status") or {}, to_wire(held.report), prune=True)
            if not patch:
                return
            name = held.live["metadata"]["name"]
            path = kinds.EDGE_DEPLOYMENT.path(self._namespace, name, "status")
            try:
                answer = await self._patch("edgedeployments", path, _versioned(held.live, patch))
            except RefusedError as error:
                if error.status == 404:
                    return
                if error.status == 409:
                    with contextlib.suppress(LinkError):
                        self._take(await self._read(name))
                    continue
                self._nature.trouble(f"report {error}"[:60])
            except LinkError as error:
                self._nature.trouble(f"report {error}"[:60])
            else:
                if not _older(answer["metadata"], held.live["metadata"]):
                    held.live = answer
                return
            pause = min(_LONGEST_RETRY, pause * 2)
            await asyncio.sleep(pause * jitter.uniform(0.7, 1.0))

    async def _read(self, name: str) -> Object:
        path = kinds.EDGE_DEPLOYMENT.path(self._namespace, name)
        return await self._lines.call("get edgedeployments", "GET", path)

    async def _patch(self, what: str, path: str, body: Object) -> Object:
        return await self._lines.call(f"patch {what}", "PATCH", path, body)


def _versioned(live: Object, status: Object) -> Object:
    return {"metadata": {"resourceVersion": live["metadata"]["resourceVersion"]}, "status": status}


def _older(meta: Object, than: Object) -> bool:
    return int(meta["resourceVersion"]) < int(than["resourceVersion"])


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
