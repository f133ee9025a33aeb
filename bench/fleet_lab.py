"""A hub with its operator, and sites that live on it: what `bench/fleet.py` measures."""

import argparse
import asyncio
import contextlib
import json
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric import ec
from edgefleet.kube import errors, kinds
from edgefleet.kube.client import Api, Object
from edgefleet.kube.kinds import Kind
from support import hub
from support.fake_agent import FakeAgent, Key
from typing_extensions import override

from bench import gauges
from bench.gauges import Usage
from bench.phases import Phases
from bench.servers import Servers
from bench.simulator import key_id, key_pem, site_name

_AT_A_TIME: Final = 24


@dataclass
class Sites:
    """Simulators at work."""

    count: int
    processes: list[subprocess.Popen[bytes]]
    files: list[Path]

    def start(self, command: list[str], file: Path) -> None:
        """Start one that tells a file."""
        with file.open("wb") as out:
            self.processes.append(subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out))
        self.files.append(file)

    def told(self) -> dict[str, Any]:
        """What all of them said last, added up."""
        lines = [self._last(file) for file in self.files]
        sums = {
            key: sum(line.get(key, 0) for line in lines)
            for key in ("sites", "ordered", "served", "orders", "reports", "beats", "connections", "bytes")
        }
        tops = {
            key: max((line.get(key, 0.0) for line in lines), default=0.0)
            for key in ("last_ordered", "last_served", "beat_p50", "beat_p99")
        }
        return {**sums, **tops, **{key: _added(lines, key) for key in ("requests", "refused", "trouble")}}

    def end(self) -> None:
        """End all of them."""
        for process in self.processes:
            process.send_signal(signal.SIGTERM)
        for process in self.processes:
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    @staticmethod
    def _last(file: Path) -> dict[str, Any]:
        with file.open("rb") as opened:
            opened.seek(max(0, file.stat().st_size - 20_000))
            whole = [line for line in opened.read().split(b"\n")[:-1] if line.startswith(b"{")]
        found: dict[str, Any] = json.loads(whole[-1]) if whole else {}
        return found


def _added(lines: list[dict[str, Any]], key: str) -> dict[str, int]:
    found: dict[str, int] = {}
    for line in lines:
        for name, value in line.get(key, {}).items():
            found[name] = found.get(name, 0) + value
    return found


@dataclass(kw_only=True)
class Lab(Phases):
    """The parts of one run."""

    options: argparse.Namespace
    folder: Path
    kubeconfig: Path
    api: Api
    operator: hub.Operator
    servers: Servers
    sites: Sites | None = None

    # -- looking ---------------------------------------------------------------------------------------
    def usages(self) -> dict[str, Usage]:
        """All that serves the fleet, and the simulators; those left out that have ended."""
        assert self.operator.process is not None
        pids = {"operator": self.operator.process.pid}
        pids |= {"api": self.servers.pids["kube-apiserver"], "store": self.servers.pids[self.options.store]}
        simulators = self.sites.processes if self.sites else []
        pids |= {f"simulator{i or ''}": process.pid for i, process in enumerate(simulators)}
        found = {}
        for name, pid in pids.items():
            with contextlib.suppress(OSError, KeyError):  # KeyError: a dead one nobody has taken leave of
                found[name] = gauges.usage(pid)
        return found

    @override
    def gone(self) -> dict[str, Any]:
        found: dict[str, Any] = {
            name: {"how": how, "last": self.servers.last_words(name)}
            for name, how in self.servers.look().items()
        }
        if self.operator.process is not None and (code := self.operator.process.poll()) is not None:
            found["operator"] = {"how": f"exit status {code}", "last": self.operator.tail(12).splitlines()}
        for number, process in enumerate(self.sites.processes if self.sites else []):
            if process.poll() is not None:
                found[f"simulator {number}"] = {"how": f"exit status {process.returncode}", "last": []}
        return found

    @override
    def so_far(self) -> dict[str, Any]:
        return self.sites.told() if self.sites else {}

    def operator_page(self) -> gauges.Samples:
        """The operator's own metrics."""
        return gauges.samples(self.operator.page("/metrics"))

    async def api_page(self) -> gauges.Samples:
        """The API server's metrics."""
        where = await self.api.connection()
        return await asyncio.to_thread(gauges.scrape, where.server, where.ca_path or "", where.token)

    async def count(self, kind: Kind) -> int:
        """How many objects of a kind there are."""
        page = await self.api.request("GET", kind.path(), {"limit": "1"})
        return len(page["items"]) + int(page["metadata"].get("remainingItemCount") or 0)

    @contextlib.asynccontextmanager
    async def operating(self) -> AsyncIterator[None]:
        """The operator at work; stopped afterwards."""
        self.operator.start()
        try:
            yield
        finally:
            if self.operator.process and self.operator.process.poll() is None:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self.operator.stop()

    async def ready(self) -> bool:
        """Whether the operator says that its caches are full."""
        return await asyncio.to_thread(self.operator.page, "/readyz") == "ok\n"

    # -- the way -----------------------------------------------------------------------------------------
    async def seed(self, key: ec.EllipticCurvePrivateKey, joined: Path) -> None:
        """Make EdgeSites, and let the operator give each its place; a few join as real ones do."""
        count, by_request = self.options.sites, min(self.options.join, self.options.sites)
        began = time.monotonic()
        numbers = iter(range(by_request, count))

        async def lane() -> None:
            for number in numbers:
                await self._site(number, {"publicKeySHA256": key_id(key)})

        async with asyncio.TaskGroup() as group:
            for _ in range(_AT_A_TIME):
                group.create_task(lane())
        for number in range(by_request):
            await self._site(number, {})
            agent = await FakeAgent.join(self.api, site_name(number))
            (joined / f"{site_name(number)}.pem").write_bytes(_pair_of(agent))
            await agent.close()

        async def placed() -> bool:
            found = await self.count(kinds.EDGE_AGENT)
            self.progress["placed"] = found
            return bool(found >= count)

        await self.until(placed, "every site has its place")
        self.figures["seed_s"] = round(time.monotonic() - began, 1)
        self.note("seeded", seconds=self.figures["seed_s"])

    async def _site(self, number: int, spec: Object) -> None:
        labels = {"soc": f"soc{number % 4}", "country": ("de", "fr", "pl")[number % 3]}
        body = {"metadata": {"name": site_name(number), "labels": labels}, "spec": spec}
        while True:
            with contextlib.suppress(errors.AlreadyExists):  # an answer that did not reach us
                try:
                    await self.api.create(kinds.EDGE_SITE, None, body)
                except (errors.Unreachable, errors.TooMany, errors.ServerError):
                    await asyncio.sleep(1.0)
                    continue
            return

    @contextlib.asynccontextmanager
    async def living(self, key: Path, joined: Path) -> AsyncIterator[Sites]:
        """Simulators with all sites in them."""
        count, workers = self.options.sites, self.options.processes
        shares = [(i * count // workers, (i + 1) * count // workers) for i in range(workers)]
        sites = Sites(count, [], [])
        for first, last in shares:
            file = self.folder / f"simulator-{first}.jsonl"
            command = [sys.executable, "-m", "bench.simulator", "--kubeconfig", str(self.kubeconfig)]
            command += ["--key", str(key), "--joined", str(joined), "--first", str(first)]
            command += ["--count", str(last - first), "--stage", str(self.options.stage)]
            command += ["--ramp", str(self.options.ramp or count / 100)]
            sites.start(command, file)
        self.sites = sites
        try:
            yield sites
        finally:
            sites.end()


def _pair_of(agent: FakeAgent) -> bytes:
    assert isinstance(agent.key, Key)
    return key_pem(agent.key.private) + agent.certificate
