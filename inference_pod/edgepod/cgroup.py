"""What the container may use: CPU and memory limits of the process's control group, version 1 or 2.

A limit set on an outer group holds too, so every level up to the root is read and the lowest wins. Inside a container
the paths in /proc/self/cgroup may be the host's; then only the root is there, and it is the container's own group.
"""

import os
from collections.abc import Iterator
from pathlib import Path

_UNLIMITED = 1 << 60
"""Version 1 writes an absurdly large number for "no memory limit"."""


def cpu_limit(root: Path = Path("/")) -> float | None:
    """CPUs the group may use, or None when there is no limit."""
    limits = [_quota_v2(group / "cpu.max") for group in _groups(root, "")]
    limits += [_quota_v1(group) for group in _groups(root, "cpu")]
    return min((limit for limit in limits if limit is not None), default=None)


def memory_limit(root: Path = Path("/")) -> int | None:
    """Bytes the group may use, or None when there is no limit."""
    limits = [_number(group / "memory.max") for group in _groups(root, "")]
    limits += [_number(group / "memory.limit_in_bytes") for group in _groups(root, "memory")]
    return min((limit for limit in limits if limit is not None and limit < _UNLIMITED), default=None)


def threads(root: Path = Path("/")) -> int:
    """Threads that can run at the same time: whole CPUs of the limit, at least one.

    A half CPU is left out: with one thread too many the kernel stops the whole group at the end of each period.
    """
    available = len(os.sched_getaffinity(0))
    limit = cpu_limit(root)
    return max(1, available if limit is None else min(available, int(limit)))


def _groups(root: Path, controller: str) -> Iterator[Path]:
    """The folders that hold the limits of this process, innermost first."""
    mount = root / "sys/fs/cgroup" / controller
    path = Path(_own_path(root, controller).lstrip("/"))
    for level in (path, *path.parents):
        if ".." not in level.parts:
            yield mount / level


def _own_path(root: Path, controller: str) -> str:
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return ""
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controller in controllers.split(","):
            return path
    return ""


def _quota_v2(file: Path) -> float | None:
    try:
        quota, period = file.read_text().split()[:2]
        return int(quota) / int(period)
    except (OSError, ValueError):  # absent, or "max"
        return None


def _quota_v1(group: Path) -> float | None:
    quota, period = _number(group / "cpu.cfs_quota_us"), _number(group / "cpu.cfs_period_us")
    return quota / period if quota is not None and period and quota > 0 else None


def _number(file: Path) -> int | None:
    try:
        return int(file.read_text())
    except (OSError, ValueError):
        return None
