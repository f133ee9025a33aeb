"""Sites with the real agent: joined by token to a hub behind bad weather, each with namespaces of its own in a shared cluster.

The agents are `support.many_agents`, several of them in a process that is killed now and then; what a kubelet does is
`support.node`'s. Everything between is real: two API servers, the controllers of the sites' one, a registry, certificates.
"""

import asyncio
import contextlib
import json
import os
import secrets
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final

from edgefleet.core import names, rendering
from edgefleet.kube import errors, kinds
from edgefleet.kube.client import Api, Object
from edgefleet.kube.watching import Watcher
from edgepod.contract import SelfTestReport
from support.agents import Behaviour, free_port
from support.cluster import ROOT, admin, eventually
from support.fake_agent import Plan, join_token
from support.hub import Fleet, Shelf, digest
from support.node import Node
from support.weather import Weather

GATE: Final = "GateErrorRate"
"""The reason of a plan whose bundle fails in front of callers, rather than in its self-test."""


@dataclass
class RealSite:
    """One of them; what `support.fake_agent.FakeAgent` is to a storm."""

    site: str
    plan: Plan
    models: str
    """Its namespace in the sites' cluster."""
    store: Path
    api: Api
    """Of the sites' cluster."""
    weather: Weather
    user: str = ""

    @property
    def namespace(self) -> str:
        return names.site_namespace(self.site)

    async def rest(self) -> None:
        """Be cut off."""
        self.weather.cut(self.user)

    async def wake(self) -> None:
        """Be back."""
        self.weather.heal(self.user)

    async def close(self) -> None:
        """Nothing to do: all end together."""

    async def serving(self, order: str) -> str:
        """The revision the Service selects; empty: there is none, or it selects nothing yet."""
        namespace, _, model = order.partition(".")
        with contextlib.suppress(errors.NotFound):
            found = await self.api.get(kinds.SERVICE, self.models, names.workload_name(namespace, model))
            revision = str(found["spec"]["selector"].get(names.REVISION, ""))
            return revision if await self._deployed(revision) else ""
        return ""

    async def _deployed(self, revision: str) -> Object | None:
        for item in await self.api.list(kinds.DEPLOYMENT, self.models):
            if item["metadata"]["labels"].get(names.REVISION) == revision:
                return item
        return None

    async def obeys_its_memory(self, order: str) -> None:
        """I1: what serves here was not refused here at its attempt."""
        journal = json.loads(await asyncio.to_thread((self.store / "journal.json").read_text))
        record = (journal.get("models") or {}).get(order) or {}
        refused = {(item["revision"], item["attempt"]) for item in record.get("refused") or ()}
        revision = await self.serving(order)
        deployment = await self._deployed(revision)
        if revision and deployment is not None:
            attempt = int(deployment["metadata"]["annotations"][rendering.ATTEMPT])
            assert (revision, attempt) not in refused, f"I1: {self.site} serves what it refused"


@dataclass
class Watched:
    """Every version of every Service and pod of the sites, in the order the API server took them."""

    seen: dict[int, tuple[str, Object]] = field(default_factory=dict)

    def hear(self, event: str, item: Object) -> None:
        version = (item.get("metadata") or {}).get("resourceVersion")
        if version:
            self.seen[int(version)] = (event, item)

    def always_served(self, spaces: Mapping[str, str]) -> int:
        """I10, I6: a Service that once selected a ready pod always does; returns how many moves of a selector it saw.

        `spaces`: name of the site by namespace. A Service that is deleted was ordered to be.
        """
        ready: dict[str, dict[str, str]] = {space: {} for space in spaces}
        selected: dict[str, str] = {}
        moves = 0
        for version in sorted(self.seen):
            event, item = self.seen[version]
            space, name = item["metadata"]["namespace"], item["metadata"]["name"]
            if space not in ready:
                continue
            if "selector" in item["spec"]:
                if name.endswith("-canary"):
                    continue
                if event == "DELETED":
                    selected.pop(space, None)
                    continue
                now = str(item["spec"]["selector"].get(names.REVISION, ""))
                moves += space in selected and selected[space] != now
                if space in selected or now in ready[space].values():
                    selected[space] = now
            elif event == "DELETED" or not _ready(item):
                ready[space].pop(name, None)
            else:
                ready[space][name] = item["metadata"]["labels"].get(names.REVISION, "")
                continue
            if space in selected:
                assert selected[space] in ready[space].values(), (
                    f"I10: at {spaces[space]} callers are sent to {selected[space]}, ready are {ready[space]} (version {version})"
                )
        return moves


def _ready(pod: Object) -> bool:
    said = (pod.get("status") or {}).get("conditions") or ()
    return "deletionTimestamp" not in pod["metadata"] and any(
        item["type"] == "Ready" and item["status"] == "True" for item in said
    )


class Town:
    """All of them."""

    def __init__(self, fleet: Fleet, site_api: Api, weather: Weather, shelf: Shelf, folder: Path) -> None:
        self.fleet = fleet
        self.sites: dict[str, RealSite] = {}
        self.watched = Watched()
        self._api = site_api
        self._weather = weather
        self._shelf = shelf
        self._folder = folder
        self._ports: dict[str, int] = {}
        self._pod_port = free_port()
        self._houses: list[tuple[Path, subprocess.Popen[bytes]]] = []
        self._digests: dict[str, str] = {}

    @classmethod
    @contextlib.asynccontextmanager
    async def built(
        cls,
        fleet: Fleet,
        site: Path,
        weather: Weather,
        shelf: Shelf,
        folder: Path,
        fates: Mapping[str, Plan],
        *,
        houses: int = 2,
        labels: Any = lambda short: {"site": short},
        **spec: Any,
    ) -> AsyncIterator["Town"]:
        """Make, join and look after a site for each fate; all gone afterwards. The weather should be calm meanwhile."""
        async with admin(site) as site_api:
            made = cls(fleet, site_api, weather, shelf, folder)
            tasks: list[asyncio.Task[None]] = []
            try:
                shorts = list(fates)
                environments: dict[str, Object] = {}
                for start in range(0, len(shorts), 8):
                    some = shorts[start : start + 8]
                    found = await asyncio.gather(
                        *(made._prepare(s, fates[s], labels(s), spec, site) for s in some)
                    )
                    environments |= dict(zip(some, found, strict=True))
                spaces = {each.models: short for short, each in made.sites.items()}
                ports = {each.models: made._ports[short] for short, each in made.sites.items()}
                node = Node(site_api, ports, partial(made._fate, spaces), made._pod_port)
                watchers = [Watcher(site_api, kind, made.watched.hear) for kind in (kinds.SERVICE, kinds.POD)]
                tasks = [asyncio.create_task(node.run()), *(asyncio.create_task(w.run()) for w in watchers)]
                for number in range(houses):
                    made._open(number, [environments[s] for s in shorts[number::houses]])
                await made._joined(600)
                fleet.agents |= made.sites  # type: ignore[arg-type]  # what a storm does with them is the same
                yield made
                assert not [task for task in tasks if task.done()], "a stand-in has ended"
            finally:
                await made._close(tasks)

    async def _prepare(
        self, short: str, plan: Plan, labels: Mapping[str, str], spec: Any, site: Path
    ) -> Object:
        """Everything one agent needs to start."""
        name, mark = self.fleet.name(short), secrets.token_hex(3)
        models, own = f"models-{mark}", f"agent-{mark}"
        for space in (models, own):
            await self._api.create(kinds.NAMESPACE, None, {"metadata": {"name": space}})
        await self.fleet.site(short, labels=labels, **spec)
        home = self._folder / short
        home.mkdir()
        token = home / "token"
        token.write_text(await join_token(self.fleet.api, name))
        self._ports[short] = free_port()
        self.sites[short] = RealSite(name, plan, models, home / "store", self._api, self._weather)
        assert self._weather.front is not None
        environment = {
            "EDGEFLEET_HUB_SERVER": f"https://127.0.0.1:{self._weather.port}",
            "EDGEFLEET_HUB_CA": str(self._weather.front.ca),
            "EDGEFLEET_SITE": name,
            "EDGEFLEET_JOIN_TOKEN_FILE": str(token),
            "EDGEFLEET_TRUST": str(self._shelf.trust),
            "EDGEFLEET_STORE": str(home / "store"),
            "EDGEFLEET_NAMESPACE": own,
            "EDGEFLEET_MODELS_NAMESPACE": models,
            "EDGEFLEET_PLAIN_HTTP_REGISTRIES": self._shelf.server.host,
            "EDGEFLEET_AGENT_URL": f"http://127.0.0.1:{self._ports[short]}",
        }
        return {
            "name": short,
            "environment": environment,
            "port": self._ports[short],
            "pod_port": self._pod_port,
            "kubeconfig": str(site),
        }

    def _open(self, number: int, sites: list[Object]) -> None:
        plan = self._folder / f"house-{number}"
        plan.mkdir()
        (plan / "sites.json").write_text(json.dumps(sites))
        with (plan / "log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "support.many_agents", str(plan)],
                cwd=ROOT / "tests",
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._houses.append((plan, process))

    def power_cut(self, number: int) -> None:
        """All agents of one process die, and begin again."""
        plan, _ = self._houses[number % len(self._houses)]
        with contextlib.suppress(ProcessLookupError):  # the next life is not begun yet
            os.kill(int((plan / "life").read_text()), signal.SIGKILL)

    def broken(self) -> str:
        """What agents ended of by themselves; empty: none did."""
        files = [plan / "ended" for plan, _ in self._houses]
        return "\n".join(file.read_text() for file in files if file.exists())

    def tail(self, lines: int = 60) -> str:
        """The ends of their logs."""
        logs = [(plan / "log").read_text().splitlines()[-lines:] for plan, _ in self._houses]
        return "\n".join(line for each in logs for line in each)

    async def always_served(self) -> int:
        """See `Watched`."""
        return self.watched.always_served({each.models: short for short, each in self.sites.items()})

    async def _joined(self, seconds: float) -> None:
        async def told(short: str) -> bool:
            each = self.sites[short]
            live = await self.fleet.api.get(kinds.EDGE_AGENT, each.namespace, names.AGENT)
            key = str((live.get("status") or {}).get("publicKeySHA256") or "")
            each.user = names.site_user(each.site, key) if key else ""
            return bool(key)

        for short in self.sites:
            await eventually(partial(told, short), f"{short} has joined", seconds=seconds)

    async def _fate(self, spaces: Mapping[str, str], space: str, revision: str) -> Behaviour:
        plan = self.sites[spaces[space]].plan
        if revision not in self._digests:
            for raw in await self.fleet.api.list(kinds.EDGE_ROLLOUT, self.fleet.namespace):
                self._digests[raw["spec"]["revision"]] = digest(raw["spec"]["bundle"])
        bundle = self._digests.get(revision, "")
        if bundle in plan.blocked:
            report = SelfTestReport(passed=False, reason=plan.blocked[bundle])
            return Behaviour(selftest=report, selftest_exit=2)
        reason = plan.fails.get(bundle, "")
        if reason in ("", GATE):
            return Behaviour(errors=0.5 if reason else 0.0)
        return Behaviour(selftest=SelfTestReport(passed=False, reason=reason))

    async def _close(self, tasks: list[asyncio.Task[None]]) -> None:
        for _, process in self._houses:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        for task in tasks:
            task.cancel()
        ended = await asyncio.gather(*tasks, return_exceptions=True)
        print(
            "stand-ins ended with", [each for each in ended if not isinstance(each, asyncio.CancelledError)]
        )
        print(self.tail())  # shown by pytest when the test failed
        for each in self.sites.values():
            for space in (each.models, each.models.replace("models-", "agent-")):
                with contextlib.suppress(errors.NotFound):
                    await self._api.delete(kinds.NAMESPACE, None, space, uid=None)
