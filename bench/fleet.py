"""A fleet of simulated sites on a real API server, with the operator as the product starts it.

The cluster is localkube's API-only one. The operator makes every site's namespace, binding, Lease and EdgeAgent itself
from an EdgeSite whose key is fixed; a few sites join by token and certificate request. Sites are processes of
`bench.simulator`, each site with its own certificate and TLS connections, so RBAC and flow control are on.

The last line is printed however the run ends: a phase that did not finish in its time, or a server that ended, is
named under `unfinished` beside what was measured until then, and the exit status is 1.
"""

import argparse
import asyncio
import contextlib
import secrets
import shutil
import signal
import sys
import tempfile
import time
import traceback
from pathlib import Path
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric import ec
from edgefleet.kube import errors, kinds
from edgefleet.kube.client import Api
from edgefleet.kube.kinds import Kind
from support import cluster, hub, hub_chart

from bench import machine, open_files, servers, show
from bench.fleet_phases import NAMESPACE, Bench
from bench.phases import UnfinishedError
from bench.simulator import key_pem

_FLOW: Final = {
    "PriorityLevelConfiguration": "prioritylevelconfigurations",
    "FlowSchema": "flowschemas",
}
_PROFILED: Final = (
    "import cProfile, sys; from edgefleet.handlers.main import main; p = cProfile.Profile()\n"
    "try: p.runcall(main)\n"
    "finally: p.dump_stats({path!r})"
)


async def _flow_control(api: Api) -> None:
    """The share of the API server that the chart gives to sites."""
    for raw in hub_chart.rendered():
        if raw["kind"] in _FLOW:
            group, version = raw["apiVersion"].split("/")
            kind = Kind(raw["kind"], _FLOW[raw["kind"]], version, group, namespaced=False)
            await cluster.put(api, kind, None, raw)


async def measure(
    options: argparse.Namespace, kubeconfig: Path, folder: Path, figures: dict[str, Any]
) -> None:
    """Run everything on one cluster. Raises UnfinishedError."""
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
            bench = Bench(
                box=options.box or 300 + 0.3 * options.sites,
                figures=figures,
                options=options,
                folder=folder,
                kubeconfig=kubeconfig,
                api=api,
                operator=operator,
                servers=servers.Servers.of(kubeconfig.parent),
            )
            async with bench.operating():
                await bench.phase("start", bench.until(bench.ready, "the operator is ready", every=0.1))
                await bench.phase("seed", bench.seed(key, joined))
                async with bench.living(folder / "sites.key", joined):
                    await _with_sites(bench, shelf, joined)


async def _with_sites(bench: Bench, shelf: hub.Shelf, joined: Path) -> None:
    options = bench.options
    try:
        await bench.phase("online", bench.online())
        if options.idle:
            await bench.phase("idle before", bench.idle("before"))
        for number in range(options.rollouts):
            name = "first" if not number else f"update{number}"
            await bench.phase(name, bench.roll_out(name, await shelf.bundle()))
        if options.idle:
            await bench.phase("idle", bench.idle("idle"))
        await bench.phase("link", bench.link(joined))
    finally:
        bench.beats()
    if options.restart:
        await bench.phase("restart", bench.restart())


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sites", type=int, default=1000)
    parser.add_argument("--store", choices=["kine", "etcd"], default="kine")
    parser.add_argument("--processes", type=int, default=1, help="simulators")
    parser.add_argument("--stage", type=float, default=1.0, help="mean seconds in each stage of an order")
    parser.add_argument("--ramp", type=float, default=0.0, help="seconds to connect in; default: 100 sites/s")
    parser.add_argument("--idle", type=float, default=125.0, help="seconds to measure idle; 0: not")
    parser.add_argument("--join", type=int, default=10, help="sites that join by token")
    parser.add_argument("--rollouts", type=int, default=2, help="the first installs, later ones are canaries")
    parser.add_argument("--restart", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument(
        "--box", type=float, default=0.0, help="seconds a phase may take; default: 300 and 0.3 a site"
    )
    parser.add_argument("--profile", type=Path, help="where to leave the operator's profile")
    parser.add_argument(
        "--keep", type=Path, help="folder for logs of API server, store, operator and simulators"
    )
    return parser.parse_args()


def main() -> None:
    """Measure from the command line."""
    options = _options()
    files = open_files.make_room(options.sites)
    servers.adopt()
    # Else a `timeout` would leave the cluster running, and say nothing.
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    show("machine", **machine(), open_files=files)
    figures: dict[str, Any] = {}
    try:
        _run(options, figures)
    except UnfinishedError:
        pass
    except KeyboardInterrupt:
        figures.setdefault("unfinished", {"phase": "", "why": "interrupted"})
    except Exception as error:  # noqa: BLE001  the figures so far are told before anything else
        traceback.print_exc()
        figures.setdefault("unfinished", {"phase": "", "why": f"{type(error).__name__}: {error}"})
    show("fleet", store=options.store, sites=options.sites, **_first(figures))
    sys.exit(1 if "unfinished" in figures else 0)


def _run(options: argparse.Namespace, figures: dict[str, Any]) -> None:
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="edgefleet-bench-")))
        name = f"fleet-{secrets.token_hex(3)}"
        kubeconfig = stack.enter_context(cluster.running(name, store=options.store))
        if options.keep:  # before the cluster and the folder go, whatever happened
            kept = options.keep / f"{options.store}-{options.sites}-{time.strftime('%Y%m%dT%H%M%S')}"
            stack.callback(_keep, kept, kubeconfig.parent / "logs", folder)
        asyncio.run(measure(options, kubeconfig, folder, figures))


def _keep(kept: Path, logs: Path, folder: Path) -> None:
    """Copy logs; keys stay behind."""
    shutil.copytree(logs, kept)
    for file in (folder / "operator.log", *folder.glob("simulator-*.jsonl")):
        if file.exists():
            shutil.copy(file, kept)
    print(f"logs are in {kept}", file=sys.stderr)


def _first(figures: dict[str, Any]) -> dict[str, Any]:
    """The figures people ask for in front."""
    wanted = ("offer_s", "done_s", "operator_mib", "operator_cores_idle", "requests_per_site")
    return {key: figures.get(key) for key in wanted} | figures


if __name__ == "__main__":
    main()
