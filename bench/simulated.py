"""One site as its hub sees it: the requests of an agent, without store, pods and journal behind them.

`tests/cluster/simulated_site_test.py` holds it against the real agent, request by request.
"""

import asyncio
import contextlib
from datetime import UTC, datetime
from typing import Final

from edgefleet.agent.keeping import QUIET
from edgefleet.core import conditions, names, units
from edgefleet.core.fingerprint import fingerprint
from edgefleet.core.order import (
    Condition,
    to_wire,
)
from edgefleet.kube import apply, kinds
from edgefleet.kube.client import PAGE, Object

from bench.lines import Lines, LinkError, RefusedError
from bench.simulated_orders import LONGEST_RETRY, RETRY, Nature, Orders, jitter, versioned

SETTLE: Final = 2.0
"""Seconds the agent waits before it says anew what it is: several reasons come together."""
_AGENT_EVERY: Final = 3600.0
_WATCH: Final = (1800, 3600)
_FEATURES: Final = ["asimd", "asimddp", "asimdhp", "asimdrdm", "bf16", "fphp", "i8mm"]


class SimulatedSite:
    """Everything a hub hears of one joined site. `run` never returns."""

    def __init__(self, name: str, key: str, lines: Lines, nature: Nature) -> None:
        """`key` is the SHA-256 of the public key, hex."""
        self.name = name
        self._key = key
        self._lines = lines
        self._nature = nature
        self._namespace = names.site_namespace(name)
        self._orders = Orders(name, self._namespace, lines, nature)
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
            self._orders.stop()
            self._lines.close()

    # -- beats -----------------------------------------------------------------------------------------
    async def _beats(self) -> None:
        pause = RETRY
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
                pause = min(LONGEST_RETRY, pause * 2)
                await asyncio.sleep(pause * jitter.uniform(0.7, 1.0))
                continue
            pause = RETRY
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
        return fingerprint(self._orders.metas(), self._generation)

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
                    await self._patch("edgeagents", path, versioned(live, patch))
            except LinkError as error:
                self._nature.trouble(f"agent {error}"[:60])
                await asyncio.sleep(RETRY * jitter.uniform(1.4, 2.0))
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
        self._orders.keep({item["metadata"]["name"] for item in page["items"]})
        for item in page["items"]:
            self._orders.take(item)
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
                self._orders.drop(item["metadata"]["name"])
                self._agent_now.set()
            else:
                self._orders.take(item)
            self._version = item["metadata"]["resourceVersion"]

    async def _patch(self, what: str, path: str, body: Object) -> Object:
        return await self._lines.call(f"patch {what}", "PATCH", path, body)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
