"""A fleet of simulated sites on a real API server, with the operator as the product starts it.

The cluster is localkube's API-only one. The operator makes every site's namespace, binding, Lease and EdgeAgent itself
from an EdgeSite whose key is fixed; a few sites join by token and certificate request. Sites are processes of
`bench.simulator`, each site with its own certificate and TLS connections, so RBAC and flow control are on.
"""

import argparse
import asyncio
import contextlib
import secrets
import shutil
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric import ec
from edgefleet.core import names
from edgefleet.kube import errors, kinds
from edgefleet.kube.client import Api, Object
from edgefleet.kube.kinds import Kind
from support import cluster, hub, hub_chart

from bench import gauges, linkcost, machine, show
from bench.fleet_lab import Lab
from bench.lines import Lines, Traffic
from bench.simulator import context, hub_of, key_pem, site_name

NAMESPACE, MODEL = "vision", "digits"
CALM: Final = 1.5
"""Seconds without work that prove that there is none."""
DAY: Final = 86_400.0
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


class Bench(Lab):
    """What is measured, step by step."""

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
            self.ready, "the operator is ready", patience=300, every=0.1
        )
        await self._calm()
        steady = time.monotonic() - began - CALM  # which it was by then
        self.figures["restart_steady_s"] = round(max(steady, self.figures["restart_ready_s"]), 1)
        self.note("restarted", seconds=self.figures["restart_steady_s"])


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
            bench = Bench(options, folder, kubeconfig, api, operator)
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
        kubeconfig = stack.enter_context(cluster.running(f"fleet-{secrets.token_hex(3)}"))
        if options.keep:  # also of a cluster that did not live through it
            stack.callback(shutil.copytree, kubeconfig.parent / "logs", folder / "cluster")
        figures = asyncio.run(measure(options, kubeconfig, folder))
        show("fleet", store=options.store, sites=options.sites, **_first(figures))


def _first(figures: dict[str, Any]) -> dict[str, Any]:
    """The figures people ask for in front."""
    figures["operator_cores_idle"] = figures.get("operator_cores_idle")
    wanted = ("offer_s", "done_s", "operator_mib", "operator_cores_idle", "requests_per_site")
    return {key: figures.get(key) for key in wanted} | figures


if __name__ == "__main__":
    main()
