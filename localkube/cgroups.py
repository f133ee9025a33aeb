"""One control group per cluster, so that three kubelets do not tidy away each other's pods."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from pathlib import Path

ROOT = Path("/sys/fs/cgroup")


def is_v2() -> bool:
    """Whether the machine has the one hierarchy of cgroup v2."""
    return (ROOT / "cgroup.controllers").exists()


def hierarchies() -> list[Path]:
    """The root of each hierarchy a kubelet looks at."""
    if is_v2():
        return [ROOT]
    mounts = (line.split() for line in Path("/proc/mounts").read_text().splitlines())
    return [Path(fields[1]) for fields in mounts if fields[2] == "cgroup"]


def every_root() -> list[Path]:
    """The same, and the v2 tree that systemd mounts beside a v1 machine's: runc makes groups there too."""
    mounts = (line.split() for line in Path("/proc/mounts").read_text().splitlines())
    return [Path(fields[1]) for fields in mounts if fields[2] in ("cgroup", "cgroup2")]


def create(name: str) -> None:
    """Make the group in every hierarchy. kubelet wants its root to be there."""
    for root in hierarchies():
        group = root / name
        group.mkdir(exist_ok=True)
        for setting in ("cpuset.cpus", "cpuset.mems"):
            # v1: a new cpuset is empty, and nothing can run in it.
            source, target = root / setting, group / setting
            if not is_v2() and source.exists() and not target.read_text().strip():
                target.write_text(source.read_text())
    if is_v2():
        for group in (ROOT, ROOT / name):
            for controller in (group / "cgroup.controllers").read_text().split():
                with contextlib.suppress(OSError):
                    (group / "cgroup.subtree_control").write_text(f"+{controller}")


def members(name: str) -> set[int]:
    """Every process in the group or below it."""
    found: set[int] = set()
    for root in every_root():
        for folder, _, files in os.walk(root / name):
            if "cgroup.procs" in files:
                with contextlib.suppress(OSError):
                    found.update(int(pid) for pid in (Path(folder) / "cgroup.procs").read_text().split())
    return found


def kill(name: str, patience: float) -> None:
    """End all pods: the containers' processes are in the group, whoever started them."""
    for each, wait in ((signal.SIGTERM, patience), (signal.SIGKILL, 10.0)):
        deadline = time.monotonic() + wait
        told: set[int] = set()
        while left := members(name):
            for pid in left if each == signal.SIGKILL else left - told:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, each)
            told |= left
            if time.monotonic() > deadline:
                break
            time.sleep(0.05)


def remove(name: str) -> None:
    """Remove the group and all below it, deepest first."""
    for root in every_root():
        for folder, _, _ in os.walk(root / name, topdown=False):
            with contextlib.suppress(OSError):
                Path(folder).rmdir()
