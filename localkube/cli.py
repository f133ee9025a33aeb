"""The command line."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from localkube import checks, cluster, gobuild, images, network, packages, places, plan, registry, teardown
from localkube.places import Cluster, LocalkubeError
from localkube.shell import interrupted, say

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; its errors say what to do and carry no traceback."""
    options = parser().parse_args(arguments)
    try:
        result = options.command(options)
    except (LocalkubeError, plan.PlanError) as error:
        print(f"localkube: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("localkube: interrupted; run the same command again to go on", file=sys.stderr)
        return 130
    return int(result or 0)


def parser() -> argparse.ArgumentParser:
    """All commands and their options."""
    top = argparse.ArgumentParser(
        prog="localkube", description="Real Kubernetes clusters on this machine, without Docker."
    )
    commands = top.add_subparsers(required=True, metavar="COMMAND")

    def add(name: str, run: Callable[[argparse.Namespace], object], text: str) -> argparse.ArgumentParser:
        made = commands.add_parser(name, help=text, description=text)
        made.set_defaults(command=run)
        return made

    one = add("up", up, "start clusters, or finish starting them")
    one.add_argument("names", nargs="+", metavar="NAME")
    one.add_argument(
        "--api-only", action="store_true", help="API server and controllers alone: no root, no pods"
    )
    one.add_argument(
        "--store", choices=cluster.STORES, help="what keeps the objects of an --api-only cluster"
    )
    one = add("down", down, "end clusters (all, when none is named) and leave nothing behind")
    one.add_argument("names", nargs="*", metavar="NAME")
    one = add("list", listing, "the clusters of this checkout")
    one.add_argument("--json", action="store_true")
    one = add("kubeconfig", kubeconfig, "print the path of an administrator's kubeconfig")
    one.add_argument("name", metavar="NAME")
    one.add_argument(
        "--leg", choices=("mgmt", "wan"), default="mgmt", help="which address the kubeconfig names"
    )
    one = add("info", info, "print addresses and paths of a cluster as JSON")
    one.add_argument("name", metavar="NAME")
    for name, run, text in (
        ("cut", network.cut, "unplug the wan leg of a cluster; mgmt stays"),
        ("heal", network.heal, "plug it in again"),
    ):
        one = add(name, _on_wan(run), text)
        one.add_argument("names", nargs="+", metavar="NAME")
    one = add("shape", shape, "limit the wan leg of a cluster, both ways")
    one.add_argument("names", nargs="+", metavar="NAME")
    one.add_argument("--rate", required=True, help="512kbit, 2mbit, … or off")
    add(
        "binary",
        lambda _: print(gobuild.binary()),
        "build the cluster's programs if needed and print their path",
    )
    add("helm", lambda _: print(gobuild.helm()), "print the path of a helm, built if none is installed")
    _image_commands(add)
    return top


def _image_commands(
    add: Callable[[str, Callable[[argparse.Namespace], object], str], argparse.ArgumentParser],
) -> None:
    one = add("load-image", load_image, "import an image archive into clusters")
    one.add_argument("names", nargs="+", metavar="NAME")
    one.add_argument("--archive", type=Path, required=True, help="a docker-archive or oci-archive")
    one = add("build-image", build_image, "build a Dockerfile without Docker")
    one.add_argument("--dockerfile", type=Path, required=True)
    one.add_argument("--context", type=Path, required=True)
    one.add_argument("--tag", required=True)
    one.add_argument("--output", type=Path, required=True)
    one.add_argument("--builder", choices=("buildah", "docker"), default="buildah")
    one = add("wheels", wheels, "fill a folder with wheels for an image build")
    one.add_argument("--requirements", type=Path)
    one.add_argument("--source", type=Path, action="append", default=[])
    one.add_argument("--output", type=Path, required=True)
    one = add("registry", registry_command, "an OCI registry on this machine")
    one.add_argument("action", choices=("up", "down"))
    one.add_argument("--listen", default=registry.DEFAULT_LISTEN, metavar="ADDRESS:PORT")


def up(options: argparse.Namespace) -> int:
    """Start several clusters side by side."""
    names = [plan.check_name(name) for name in dict.fromkeys(options.names)]
    full = not options.api_only
    if full and options.store not in (None, cluster.STORES[0]):
        raise LocalkubeError(f"full clusters have {cluster.STORES[0]} alone: give --api-only, or no --store")
    new = [name for name in names if (known := places.load(name)) is None or not cluster.is_running(known)]
    checks.before_up(new, full=full)
    if full:
        packages.install(packages.missing(packages.FOR_NODES, cni=True), "full clusters")
    gobuild.binary()
    for name in names:
        cluster.prepare(name, full=full, store=options.store)
    return _side_by_side(names, lambda name: cluster.up(name, full=full, store=options.store))


def down(options: argparse.Namespace) -> int:
    """End clusters; with no name, everything of this state folder."""
    names = options.names or places.names()
    for name in names:
        plan.check_name(name)
        if name not in places.names():
            say(f"{name}: nothing to end")
    failed = _side_by_side([name for name in names if name in places.names()], _down)
    if not options.names:
        registry.down()
    if not options.names and not failed:
        state = places.state_dir()
        shutil.rmtree(state / ".locks", ignore_errors=True)
        if state.is_dir() and not any(state.iterdir()):
            state.rmdir()
    return failed


def _down(name: str) -> None:
    with cluster.locked(name):
        teardown.down(name)


def _side_by_side(names: Sequence[str], work: Callable[[str], None]) -> int:
    failed = 0
    with ThreadPoolExecutor(max_workers=max(1, len(names))) as pool:
        running = {name: pool.submit(work, name) for name in names}
        try:
            for name, each in running.items():
                try:
                    each.result()
                except (LocalkubeError, plan.PlanError, OSError) as error:
                    failed = 1
                    print(f"localkube: {name}: {error}", file=sys.stderr)
        except KeyboardInterrupt:
            interrupted.set()
            raise
    return failed


def listing(options: argparse.Namespace) -> None:
    """The clusters of this state folder."""
    rows = [
        (found, cluster.status(found)) for name in places.names() if (found := places.load(name)) is not None
    ]
    if options.json:
        print(json.dumps([{**facts(found), "status": status} for found, status in rows], indent=1))
        return
    if not rows:
        print("no clusters; start some with `python3 localkube up NAME…`")
        return
    for found, status in rows:
        print(
            f"{found.name:<20} {found.mode:<9} {status:<8} mgmt {found.server()}  wan {found.server('wan')}"
        )


def facts(found: Cluster) -> dict[str, str | None]:
    """What other programs want to know of a cluster."""
    return {
        "name": found.name,
        "mode": found.mode,
        "store": found.store,
        "mgmt_ip": found.mgmt_ip,
        "wan_ip": found.wan_ip,
        "api_server_mgmt": found.server("mgmt"),
        "api_server_wan": found.server("wan"),
        "ca_file": str(found.pki / "ca.crt"),
        "kubeconfig": str(found.kubeconfig),
        "netns": found.netns,
    }


def info(options: argparse.Namespace) -> None:
    """Facts of one cluster."""
    print(json.dumps(facts(places.known(options.name)), indent=1))


def kubeconfig(options: argparse.Namespace) -> None:
    """The path of a kubeconfig."""
    found = places.known(options.name)
    wan = options.leg == "wan" and found.full
    path: Path = found.home / ("kubeconfig-wan" if wan else "kubeconfig")
    if not path.exists():
        raise LocalkubeError(f"'{found.name}' has no keys yet: run `python3 localkube up {found.name}`")
    print(path)


def _on_wan(work: Callable[[Cluster], None]) -> Callable[[argparse.Namespace], None]:
    def command(options: argparse.Namespace) -> None:
        for name in options.names:
            work(places.known(name))

    return command


def shape(options: argparse.Namespace) -> None:
    """Limit the rate of wan legs."""
    plan.rate_in_bits(options.rate)
    for name in options.names:
        network.shape(places.known(name), options.rate)


def load_image(options: argparse.Namespace) -> int:
    """Import one archive into several clusters."""
    return _side_by_side(options.names, lambda name: images.load(places.known(name), options.archive))


def build_image(options: argparse.Namespace) -> None:
    """Build one image."""
    images.build(options.dockerfile, options.context, options.tag, options.output.resolve(), options.builder)


def wheels(options: argparse.Namespace) -> None:
    """Fetch and build wheels."""
    if options.requirements is None and not options.source:
        raise LocalkubeError("nothing to do: give --requirements FILE or --source DIR")
    images.wheels(options.requirements, options.source, options.output.resolve())


def registry_command(options: argparse.Namespace) -> None:
    """Start or end the registry."""
    if options.action == "up":
        registry.up(options.listen)
    else:
        registry.down()
