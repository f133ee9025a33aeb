"""Before anything is fetched or started: can it work here, and what will it install?"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from localkube import gobuild, network, packages, places, plan
from localkube.places import LocalkubeError
from localkube.shell import say

if TYPE_CHECKING:
    from collections.abc import Sequence

MEMORY_FULL = 1200
MEMORY_API = 500
MEMORY_TO_BUILD = 3000
DISK_FULL = 3000
DISK_API = 300


def memory_mb() -> int:
    """What the kernel thinks programs can still have."""
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) // 1024
    return 0


def disk_mb(folder: Path) -> int:
    """Free space where a folder is or will be."""
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free // 10**6


def before_up(new: Sequence[str], *, full: bool) -> None:
    """Raise with everything that stands in the way at once, or say what comes."""
    problems = list(_problems(len(new), full=full))
    if problems:
        raise LocalkubeError(
            "this machine cannot do it yet:\n" + "\n".join(f"  - {each}" for each in problems)
        )
    if full and (wanted := packages.missing(packages.FOR_NODES, cni=True)):
        say(f"will install with apt-get: {' '.join(wanted)}")
    if not gobuild.binary_path().exists():
        say(f"will build Kubernetes {gobuild.KUBERNETES} into {places.cache_dir()}")


def _problems(count: int, *, full: bool) -> list[str]:
    found = []
    if sys.platform != "linux":
        found.append("only Linux has what clusters are made of: use a Linux machine or a virtual one")
        return found
    if full:
        found += _problems_of_full()
    building = not gobuild.binary_path().exists()
    memory = max(count * (MEMORY_FULL if full else MEMORY_API), MEMORY_TO_BUILD if building else 0)
    if (have := memory_mb()) < memory:
        found.append(
            f"{memory} MB of memory are needed, {have} are free: end something, or start fewer clusters"
        )
    disk = count * (DISK_FULL if full else DISK_API)
    if (have := disk_mb(places.state_dir())) < disk:
        found.append(
            f"{disk} MB of disk are needed under {places.state_dir()}, {have} are free: LOCALKUBE_STATE can name another place"
        )
    if building and (have := disk_mb(places.cache_dir())) < gobuild.DISK_TO_BUILD // 10**6:
        found.append(
            f"{gobuild.DISK_TO_BUILD // 10**6} MB of disk are needed once under {places.cache_dir()}, {have} are free: EDGEFLEET_CACHE can name another place"
        )
    return found


def _problems_of_full() -> list[str]:
    found = []
    if os.geteuid() != 0:
        found.append("full clusters make namespaces and mounts: run as root (sudo), or give --api-only")
        return found
    longest = len(os.fsencode(str(places.state_dir()))) + 31 + len(places.LONGEST_SOCKET)
    if longest > 107:
        found.append(
            f"{places.state_dir()} is too long a path for sockets: set LOCALKUBE_STATE to a shorter one"
        )
    if shutil.which("ip") and (clash := plan.clash_with_legs(network.own_networks())):
        found.append(
            f"this machine's network {clash} overlaps {plan.WAN} or {plan.MGMT}: take that network down first"
        )
    return found
