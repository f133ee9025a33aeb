"""The end of a cluster: no process, mount, namespace, control group or file stays."""

from __future__ import annotations

import os
import re
import shutil
import time
from contextlib import suppress
from pathlib import Path

from localkube import cgroups, claims, network, places, processes
from localkube.places import LocalkubeError
from localkube.shell import run, say, succeeds

# Whoever could start something anew goes first.
STARTERS = ("kubelet", "addons", "kube-scheduler", "kube-controller-manager", "kube-proxy")
SHIM_SOCKETS = Path("/run/containerd/s")
CNI_RESULTS = Path("/var/lib/cni/results")
LOG_LINKS = Path("/var/log/containers")
# Folders that containerd, kubelet and the network plugins make wherever they run.
SHARED_FOLDERS = (
    SHIM_SOCKETS,
    SHIM_SOCKETS.parent / "runc",
    SHIM_SOCKETS.parent,
    CNI_RESULTS,
    CNI_RESULTS.parent,
    LOG_LINKS,
)


def down(name: str) -> None:
    """End and delete one cluster, however far its start had come."""
    home = places.state_dir() / name
    began = time.monotonic()
    let_go(name, home)
    _delete(home)
    claims.release(home)
    say(f"{name}: gone ({time.monotonic() - began:.1f} s)")


def let_go(name: str, home: Path) -> None:
    """End what runs and give back everything that belongs to the machine; the folder stays."""
    had_node = _may_have_node(name, home)
    if had_node and os.geteuid() != 0:
        raise LocalkubeError(
            f"'{name}' has namespaces and mounts that only root can remove: run `down` as root (sudo)"
        )
    processes.end_named(home, STARTERS, patience=2.0)
    if had_node:
        cgroups.kill(f"ef-{name}", patience=3.0)
    processes.end(processes.below(home), patience=2.0)
    if had_node:
        _forget_sockets(home)
        unmount_below(home)
        cgroups.remove(f"ef-{name}")
        index = claims.held_by(home)
        if index is not None:
            network.namespace_down(f"ef-{name}", index)
        _forget_traces(home)


def _may_have_node(name: str, home: Path) -> bool:
    """By its claim, its record, or its mounts: any of them may be missing after a crash."""
    with suppress(LocalkubeError):
        record = places.load(name)
        if record is not None and record.full:
            return True
    return claims.held_by(home) is not None or bool(mounts_below(home))


def mounts_below(home: Path) -> list[str]:
    """Mount points below a folder, the deepest first."""
    found = []
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        point = re.sub(r"\\([0-7]{3})", lambda code: chr(int(code[1], 8)), line.split()[4])
        if point.startswith(f"{home}/"):
            found.append(point)
    return sorted(found, key=len, reverse=True)


def unmount_below(home: Path) -> None:
    """Unmount everything; what is busy for a moment more leaves the tree at once and ends by itself."""
    for _ in range(3):
        points = mounts_below(home)
        for point in points:
            if not succeeds(["umount", point]):
                succeeds(["umount", "-l", point])
        if not points:
            return


def _forget_sockets(home: Path) -> None:
    """Shims keep their sockets in one folder for all containerds, and leave them when killed."""
    for file in home.glob("containerd-run/io.containerd.runtime.v2.task/*/*/address"):
        with suppress(OSError):
            path = Path(file.read_text().strip().removeprefix("unix://"))
            if path.parent == SHIM_SOCKETS:
                path.unlink(missing_ok=True)


def _forget_traces(home: Path) -> None:
    for file in (each for pattern in ("ef-*", "cni-loopback-*") for each in CNI_RESULTS.glob(pattern)):
        # Each names the network namespace it was for, and those lie in the cluster's folder.
        with suppress(OSError):
            if f'"{home}/' in file.read_text():
                file.unlink(missing_ok=True)
    for link in LOG_LINKS.glob("*.log"):
        if link.is_symlink() and str(link.readlink()).startswith(f"{home}/"):
            link.unlink(missing_ok=True)
    for folder in SHARED_FOLDERS:
        with suppress(OSError):
            folder.rmdir()  # only when empty


def _delete(home: Path) -> None:
    if mounts_below(home):
        raise LocalkubeError(f"something is still mounted below {home}: see `findmnt`, then run `down` again")
    if not home.exists():
        return
    # A secret volume is read-only for its owner; overlay work folders have mode 000.
    shutil.rmtree(home, ignore_errors=True)
    if home.exists():
        run(["rm", "-rf", "--one-file-system", home])
