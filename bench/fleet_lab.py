"""A hub with its operator, and sites that live on it: what `bench/fleet.py` measures."""

import argparse
import asyncio
import contextlib
import json
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric import ec
from edgefleet.kube import kinds
from edgefleet.kube.client import Api, Object
from edgefleet.kube.kinds import Kind
from support import hub
from support.fake_agent import FakeAgent, Key

from bench import gauges
from bench.gauges import Usage
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
        for process in self.processes:
            if process.poll() is not None:
                sys.exit(f"a simulator ended with {process.returncode}")
        sums = {
            key: sum(line.get(key, 0) for line in lines)
            for key in ("sites", "ordered", "served", "beats", "connections", "bytes")
        }
        tops = {
            key: max((line.get(key, 0.0) for line in lines), default=0.0)
            for key in ("last_ordered", "last_served", "beat_p50", "beat_p99")
        }
        return {**sums, **tops, **{key: _added(lines, key) for key in ("requests", "refused", "trouble")}}

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


@dataclass
class Lab:
    """The parts of one run, and its figures so far."""

    options: argparse.Namespace
    folder: Path
    kubeconfig: Path
    api: Api
    operator: hub.Operator
    sites: Sites | None = None
    figures: dict[str, Any] = field(default_factory=dict)

    # -- looking ---------------------------------------------------------------------------------------
    def pid(self, program: str) -> int:
        """A program of the cluster."""
        return int((self.kubeconfig.parent / "pids" / program).read_text().split()[0])

    def usages(self) -> dict[str, Usage]:
        """All that serves the fleet."""
        assert self.operator.process is not None
        found = {"operator": gauges.usage(self.operator.process.pid)}
        for short, program in (("api", "kube-apiserver"), ("store", "kine")):
            found[short] = gauges.usage(self.pid(program))
        return found

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

    def note(self, text: str, **values: Any) -> None:
        """Say on standard error how it goes."""
        print(f"{time.strftime('%H:%M:%S')} load {gauges.load()}: {text} {values or ''}", file=sys.stderr)

    async def until(
        self, true: Callable[[], Awaitable[bool]], what: str, *, patience: float, every: float = 0.5
    ) -> float:
        """Wait; returns the seconds it took."""
        began = time.monotonic()
        said = began
        while not await true():
            now = time.monotonic()
            if now - began > patience:
                self.note(self.operator.tail(5))
                sys.exit(f"not within {patience:.0f} s: {what}")
            if now - said > 20:
                said = now
                self.note(f"waiting: {what}", **(self.sites.told() if self.sites else {}))
            await asyncio.sleep(every)
        return round(time.monotonic() - began, 1)

    @contextlib.asynccontextmanager
    async def operating(self) -> AsyncIterator[None]:
        """The operator, ready; stopped afterwards."""
        self.operator.start()
        try:
            await self.until(self.ready, "the operator is ready", patience=300, every=0.1)
            yield
        finally:
            if self.operator.process and self.operator.process.poll() is None:
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

        await asyncio.gather(*(lane() for _ in range(_AT_A_TIME)))
        for number in range(by_request):
            await self._site(number, {})
            agent = await FakeAgent.join(self.api, site_name(number))
            (joined / f"{site_name(number)}.pem").write_bytes(_pair_of(agent))
            await agent.close()

        async def placed() -> bool:
            return bool(await self.count(kinds.EDGE_AGENT) >= count)

        await self.until(placed, "every site has its place", patience=count * 0.2 + 60)
        self.figures["seed_s"] = round(time.monotonic() - began, 1)
        self.note("seeded", seconds=self.figures["seed_s"])

    async def _site(self, number: int, spec: Object) -> None:
        labels = {"soc": f"soc{number % 4}", "country": ("de", "fr", "pl")[number % 3]}
        body = {"metadata": {"name": site_name(number), "labels": labels}, "spec": spec}
        await self.api.create(kinds.EDGE_SITE, None, body)

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
            for process in sites.processes:
                process.send_signal(signal.SIGTERM)
            for process in sites.processes:
                process.wait(60)


def _pair_of(agent: FakeAgent) -> bytes:
    assert isinstance(agent.key, Key)
    return key_pem(agent.key.private) + agent.certificate
