"""A fleet of simulated sites on a real API server, with the operator as the product starts it.

The cluster is localkube's API-only one. The operator makes every site's namespace, binding, Lease and EdgeAgent itself
from an EdgeSite whose key is fixed; a few sites join by token and certificate request. Sites are processes of
`bench.simulator`, each site with its own certificate and TLS connections, so RBAC and flow control are on.
"""

import argparse
import asyncio
import contextlib
import json
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric import ec
from edgefleet.core import names
from edgefleet.kube import errors, kinds
from edgefleet.kube.client import Api, Object
from edgefleet.kube.kinds import Kind
from support import cluster, hub, hub_chart
from support.fake_agent import FakeAgent, Key

from bench import gauges, linkcost, machine, show
from bench.gauges import Usage
from bench.lines import Lines, Traffic
from bench.simulator import context, hub_of, key_id, key_pem, site_name

NAMESPACE, MODEL = "vision", "digits"
DAY: Final = 86_400.0
_AT_A_TIME: Final = 24
_FLOW: Final = {
    "PriorityLevelConfiguration": "prioritylevelconfigurations",
    "FlowSchema": "flowschemas",
}
_PROFILED: Final = (
    "import cProfile, sys; from edgefleet.handlers.main import main; p = cProfile.Profile()\n"
    "try: p.runcall(main)\n"
    "finally: p.dump_stats({path!r})"
)
# A rollout to everybody in waves, offered as fast as the hub can.
WAVES: Final[list[Object]] = [
    {"name": "lab", "limit": "1%", "maxConcurrency": 10000},
    {"name": "early", "limit": "10%", "maxConcurrency": 10000},
    {"name": "rest", "maxConcurrency": 10000},
]


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
class Bench:
    """One run: its parts, and the figures so far."""

    options: argparse.Namespace
    folder: Path
    kubeconfig: Path
    api: Api
    operator: hub.Operator
    shelf: hub.Shelf
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
            await self.until(self._ready, "the operator is ready", patience=300, every=0.1)
            yield
        finally:
            if self.operator.process and self.operator.process.poll() is None:
                self.operator.stop()

    async def _ready(self) -> bool:
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

    async def online(self) -> None:
        """Wait until the hub calls every site Online."""

        async def all_online() -> bool:
            page = self.operator_page()
            return bool(gauges.total(page, "edgefleet_sites", connectivity="Online") >= self.options.sites)

        seconds = await self.until(all_online, "every site is Online", patience=600 + self.options.sites / 10)
        self.figures["online_s"] = seconds
        self.note("online", seconds=seconds)

    async def idle(self, name: str) -> None:
        """Measure a fleet in which nothing happens but beats."""
        assert self.sites is not None
        await self._calm()
        before, told, page = self.usages(), self.sites.told(), await self.api_page()
        await asyncio.sleep(self.options.idle)
        after, then, page2 = self.usages(), self.sites.told(), await self.api_page()
        seconds = after["operator"].at - before["operator"].at
        sites = self.options.sites
        per_day = (then["bytes"] - told["bytes"]) / sites * DAY / seconds
        writes = gauges.total(page2, "apiserver_request_total") - gauges.total(
            page, "apiserver_request_total"
        )
        self.figures |= {
            f"{program}_cores_{name}": after[program].cores(before[program]) for program in after
        } | {f"{program}_mib_{name}": after[program].mib for program in after}
        self.figures |= {
            f"link_mb_day_{name}": round(per_day / 1e6, 3),
            f"beats_s_{name}": round((then["beats"] - told["beats"]) / seconds, 2),
            f"api_requests_s_{name}": round(writes / seconds, 1),
            f"load_{name}": gauges.load(),
        }
        self.note(f"idle {name}", **{k: v for k, v in self.figures.items() if k.endswith(f"_{name}")})

    async def _calm(self) -> None:
        """Wait until the operator has nothing to do."""
        quiet = 0

        async def nothing_due() -> bool:
            nonlocal quiet
            quiet = quiet + 1 if gauges.total(self.operator_page(), "edgefleet_queue_depth") <= 3 else 0
            return quiet >= 4

        await self.until(nothing_due, "the operator is calm", patience=600)

    async def roll_out(self, name: str, bundle: str) -> None:
        """Give the model a bundle and follow it to every site."""
        assert self.sites is not None
        sites = self.options.sites
        before, told, page = self.usages(), self.sites.told(), await self.api_page()
        own = self.operator_page()
        began = time.monotonic()
        await self._apply(bundle)

        async def done() -> bool:
            raw = await self.api.get(kinds.EDGE_MODEL, NAMESPACE, MODEL)
            ready = cluster.condition(raw, "Ready")
            fresh = ready.get("observedGeneration") == raw["metadata"]["generation"]
            return bool(fresh and ready.get("status") == "True")

        await self.until(done, f"{name} is everywhere", patience=900 + sites / 5)
        ended = time.monotonic()
        await asyncio.sleep(2.5)  # the last line of each simulator
        after, then, page2 = self.usages(), self.sites.told(), await self.api_page()
        mine = self.operator_page()
        asked = {verb: int(count - told["requests"].get(verb, 0)) for verb, count in then["requests"].items()}
        everything = gauges.total(page2, "apiserver_request_total") - gauges.total(
            page, "apiserver_request_total"
        )
        suffix = "" if name == "first" else f"_{name}"
        self.figures |= {
            f"offer_s{suffix}": round(then["last_ordered"] - began, 1),
            f"served_s{suffix}": round(then["last_served"] - began, 1),
            f"done_s{suffix}": round(ended - began, 1),
            f"requests_per_site{suffix}": round(sum(asked.values()) / sites, 2),
            f"hub_requests_per_site{suffix}": round((everything - sum(asked.values())) / sites, 2),
            f"bytes_per_site{suffix}": round((then["bytes"] - told["bytes"]) / sites),
            f"passes_site{suffix}": int(_passes(mine, "site") - _passes(own, "site")),
            f"passes_model{suffix}": int(_passes(mine, "model") - _passes(own, "model")),
            f"model_pass_s{suffix}": round(_seconds(mine, "model") - _seconds(own, "model"), 1),
            f"refused{suffix}": then["refused"],
            f"load{suffix or '_first'}": gauges.load(),
        } | {f"{program}_cores_rolling{suffix}": after[program].cores(before[program]) for program in after}
        self.note(f"rolled out {name}", **{k: v for k, v in self.figures.items() if k.endswith(suffix)})

    async def _apply(self, bundle: str) -> None:
        canary = {"steps": [{"shadow": 100, "duration": "1s"}]}
        spec = {
            "bundle": bundle,
            "placement": {"siteSelector": {}},
            "canary": canary,
            "rollout": {"waves": WAVES},
        }
        try:
            await self.api.create(
                kinds.EDGE_MODEL,
                NAMESPACE,
                {"metadata": {"name": MODEL, "namespace": NAMESPACE}, "spec": spec},
            )
        except errors.AlreadyExists:
            await self.api.merge_patch(kinds.EDGE_MODEL, NAMESPACE, MODEL, {"spec": {"bundle": bundle}})

    async def link(self, joined: Path) -> None:
        """Weigh what a quiet site does, by one of those that joined by token; its simulator goes on meanwhile."""
        if not self.options.join or not self.options.rollouts:
            return
        site = site_name(0)
        host, port, authority = hub_of(self.kubeconfig)
        tls = context(authority, (joined / f"{site}.pem").read_bytes(), self.folder / "weighed.tmp")
        lines = Lines(host, port, tls, Traffic())
        cost = await linkcost.measure(site, lines, names.order_name(NAMESPACE, MODEL))
        lines.close()
        self.figures |= {f"link_{name}": value for name, value in asdict(cost).items()}
        self.figures["link_mb_day"] = round(cost.day(kept=False) / 1e6, 2)
        self.figures["link_mb_day_kept"] = round(cost.day(kept=True) / 1e6, 2)

    async def restart(self) -> None:
        """Kill the operator and see how long the new one takes until it has nothing left to do."""
        self.operator.kill()
        began = time.monotonic()
        self.operator.start()
        self.figures["restart_ready_s"] = await self.until(
            self._ready, "the operator is ready", patience=300, every=0.1
        )
        await self._calm()
        self.figures["restart_steady_s"] = round(time.monotonic() - began - 2.0, 1)
        self.note("restarted", seconds=self.figures["restart_steady_s"])


def _pair_of(agent: FakeAgent) -> bytes:
    assert isinstance(agent.key, Key)
    return key_pem(agent.key.private) + agent.certificate


def _passes(page: gauges.Samples, queue: str) -> float:
    return gauges.total(page, "edgefleet_passes_total", queue=queue)


def _seconds(page: gauges.Samples, queue: str) -> float:
    return gauges.total(page, "edgefleet_pass_seconds_sum", queue=queue)


async def _flow_control(api: Api) -> None:
    """The share of the API server that the chart gives to sites."""
    for raw in hub_chart.rendered():
        if raw["kind"] in _FLOW:
            group, version = raw["apiVersion"].split("/")
            kind = Kind(raw["kind"], _FLOW[raw["kind"]], version, group, namespaced=False)
            await cluster.put(api, kind, None, raw)


async def measure(options: argparse.Namespace, kubeconfig: Path, folder: Path) -> dict[str, Any]:
    """Run everything on one cluster."""
    key, joined = ec.generate_private_key(ec.SECP256R1()), folder / "joined"
    joined.mkdir()
    (folder / "sites.key").touch(mode=0o600)
    (folder / "sites.key").write_bytes(key_pem(key))
    async with cluster.admin(kubeconfig) as api:
        own = await hub_chart.install(kubeconfig, folder)
        await _flow_control(api)
        with contextlib.suppress(errors.AlreadyExists):
            await api.create(kinds.NAMESPACE, None, {"metadata": {"name": NAMESPACE}})
        with hub.shelf(folder) as shelf:
            operator = hub.Operator(own, shelf, folder / "operator.log")
            if options.profile:
                operator.launcher = ("-c", _PROFILED.format(path=str(options.profile.resolve())))
            bench = Bench(options, folder, kubeconfig, api, operator, shelf)
            async with bench.operating():
                await bench.seed(key, joined)
                async with bench.living(folder / "sites.key", joined):
                    await bench.online()
                    if options.idle:
                        await bench.idle("before")
                    for number in range(options.rollouts):
                        await bench.roll_out(
                            "first" if not number else f"update{number}", await shelf.bundle()
                        )
                    if options.idle:
                        await bench.idle("idle")
                    await bench.link(joined)
                    usages = bench.usages()
                    if options.restart:
                        await bench.restart()
                    assert bench.sites is not None
                    told = bench.sites.told()
                    bench.figures |= {"beat_p50": told["beat_p50"], "beat_p99": told["beat_p99"]}
                    bench.figures |= {"trouble": told["trouble"]}
                bench.figures |= {f"{name}_mib": seen.mib for name, seen in usages.items()}
                bench.figures |= {f"{name}_peak_mib": seen.peak_mib for name, seen in usages.items()}
                return bench.figures


def main() -> None:
    """Measure from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sites", type=int, default=1000)
    parser.add_argument("--store", choices=["kine"], default="kine")
    parser.add_argument("--processes", type=int, default=1, help="simulators")
    parser.add_argument("--stage", type=float, default=1.0, help="mean seconds in each stage of an order")
    parser.add_argument("--ramp", type=float, default=0.0, help="seconds to connect in; default: 100 sites/s")
    parser.add_argument("--idle", type=float, default=125.0, help="seconds to measure idle; 0: not")
    parser.add_argument("--join", type=int, default=10, help="sites that join by token")
    parser.add_argument("--rollouts", type=int, default=2, help="the first installs, later ones are canaries")
    parser.add_argument("--restart", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--profile", type=Path, help="where to leave the operator's profile")
    parser.add_argument("--keep", type=Path, help="where to leave logs")
    options = parser.parse_args()
    show("machine", **machine())
    with contextlib.ExitStack() as stack:
        if options.keep:
            options.keep.mkdir(parents=True, exist_ok=True)
            folder = Path(tempfile.mkdtemp(dir=options.keep))
        else:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="edgefleet-bench-")))
        kubeconfig = stack.enter_context(cluster.running("fleet"))
        figures = asyncio.run(measure(options, kubeconfig, folder))
        show("fleet", store=options.store, sites=options.sites, **_first(figures))


def _first(figures: dict[str, Any]) -> dict[str, Any]:
    """The figures people ask for in front."""
    figures["operator_cores_idle"] = figures.get("operator_cores_idle")
    wanted = ("offer_s", "done_s", "operator_mib", "operator_cores_idle", "requests_per_site")
    return {key: figures.get(key) for key in wanted} | figures


if __name__ == "__main__":
    main()
