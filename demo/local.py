"""The demo's own clusters: real Kubernetes in network namespaces of this machine, by localkube."""

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from demo import images
from demo.cluster import ROOT, Cluster, CommandError, run
from demo.fleet import Fleet

HUB = "hub"
SITES = ("shop-paris", "shop-rome")
REGISTRY = "198.18.0.1:5000"
"""Where this machine stands on the clusters' wide-area network."""


def localkube(*arguments: str, show: bool = False) -> str:
    """Run localkube; `show` passes its progress on to the terminal. Raises CommandError."""
    command = [sys.executable, "localkube", *arguments]
    if not show:
        return run(command, timeout=1800)
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, cwd=ROOT, check=False)
    if done.returncode:
        raise CommandError(f"python3 localkube {' '.join(arguments)} ended with {done.returncode}")
    return done.stdout


class LocalLink:
    """The wan leg of a cluster."""

    def cut(self, site: str) -> None:
        """Unplug it."""
        localkube("cut", site)

    def heal(self, site: str) -> None:
        """Plug it in."""
        localkube("heal", site)


def up(
    say: Callable[[str], None],
    *,
    hub: str = HUB,
    sites: Sequence[str] = SITES,
    registry: str = REGISTRY,
) -> Fleet:
    """Start (or find) the clusters and the registry, with both images loaded. Raises CommandError.

    A site with the hub's name means a hub that is its own site: one cluster.
    """
    names = list(dict.fromkeys((hub, *sites)))
    say(f"starting {', '.join(names)}: real Kubernetes, built once (minutes) and then cached")
    localkube("up", *names, show=True)
    localkube("registry", "up", "--listen", registry, show=True)
    for archive in images.build(say).archives:
        say(f"loading {archive.name}")
        runs_it = sites if archive.name.startswith("edgepod") else names
        localkube("load-image", *runs_it, "--archive", str(archive))
    return attach(hub=hub, sites=sites, registry=registry)


def attach(*, hub: str = HUB, sites: Sequence[str] = SITES, registry: str = REGISTRY) -> Fleet:
    """The fleet as it is, without starting or loading anything. Raises CommandError."""
    clusters = {name: cluster(name) for name in dict.fromkeys((hub, *sites))}
    return Fleet(
        hub=clusters[hub],
        sites={name: clusters[name] for name in sites},
        hub_server=json.loads(localkube("info", hub))["api_server_wan"],
        registry=registry,
        images=images.last_built(),
        link=LocalLink(),
    )


def cluster(name: str) -> Cluster:
    """A cluster that is up. Raises CommandError."""
    return Cluster(name, Path(localkube("kubeconfig", name).strip()))
