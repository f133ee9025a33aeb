"""Debian packages: only what is missing, and nothing taken away."""

from __future__ import annotations

import os
import shutil
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from localkube.gobuild import one_at_a_time
from localkube.places import LocalkubeError
from localkube.shell import run, say, succeeds

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

# program → package. A program that is on PATH already may come from anywhere:
# Debian's containerd and Docker's containerd.io exclude each other.
FOR_NODES = {
    "containerd": "containerd",
    "ctr": "containerd",
    "containerd-shim-runc-v2": "containerd",
    "runc": "runc",
    "iptables": "iptables",
    "conntrack": "conntrack",
    "ip": "iproute2",
    "bridge": "iproute2",
    "tc": "iproute2",
    "nsenter": "util-linux",
    "mount": "mount",
}
FOR_IMAGES = {"buildah": "buildah", "mmdebstrap": "mmdebstrap", "runc": "runc"}
FOR_REGISTRY = {"docker-registry": "docker-registry"}
# Packages that bring a service of the same name.
SERVICES = frozenset({"containerd", "docker-registry"})
CNI_PACKAGE = "containernetworking-plugins"
CNI_FOLDERS = (Path("/opt/cni/bin"), Path("/usr/lib/cni"), Path("/usr/libexec/cni"))
CNI_PLUGINS = ("ptp", "host-local", "portmap", "loopback")
POLICY = Path("/usr/sbin/policy-rc.d")
NO_SERVICES = "#!/bin/sh\n# Written by localkube for the time of one apt-get: packages install, their services stay off.\nexit 101\n"


def cni_folder() -> Path | None:
    """The folder that has every network plugin we use."""
    for folder in CNI_FOLDERS:
        if all((folder / plugin).exists() for plugin in CNI_PLUGINS):
            return folder
    return None


def missing(programs: dict[str, str], *, cni: bool = False) -> list[str]:
    """The packages to install."""
    # sbin is not on every root's PATH (su without -).
    path = os.environ.get("PATH", "") + ":/usr/sbin:/sbin:/usr/local/sbin"
    wanted = {package for program, package in programs.items() if shutil.which(program, path=path) is None}
    if cni and cni_folder() is None:
        wanted.add(CNI_PACKAGE)
    return sorted(wanted)


@contextmanager
def _services_off() -> Iterator[None]:
    """Keep the packages' own services from starting: ours run with their own configuration."""
    if POLICY.exists():
        yield
        return
    POLICY.write_text(NO_SERVICES)
    POLICY.chmod(0o755)
    try:
        yield
    finally:
        if POLICY.exists() and POLICY.read_text() == NO_SERVICES:
            POLICY.unlink()


def install(packages: Iterable[str], why: str) -> None:
    """Install with apt-get, after saying what and why."""
    wanted = list(packages)
    if not wanted:
        return
    listing = " ".join(wanted)
    if os.geteuid() != 0:
        raise LocalkubeError(
            f"{why} needs packages: run `apt-get install {listing}` as root, then this again"
        )
    if shutil.which("apt-get") is None:
        raise LocalkubeError(
            f"{why} needs {listing}, and this machine has no apt-get: install them by its own means"
        )
    with one_at_a_time("apt"), _services_off():
        say(f"installing for {why}: {listing}")
        _finish_what_a_killed_run_left()
        apt = ["env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-q", "-o", "DPkg::Lock::Timeout=300"]
        run([*apt, "update"], timeout=600, check=False)
        run([*apt, "install", "-y", "--no-remove", "--no-install-recommends", *wanted], timeout=1200)
        for service in SERVICES.intersection(wanted):
            # Off at the next boot too. Either tool may be missing.
            succeeds(["systemctl", "disable", service])
            succeeds(["update-rc.d", service, "disable"])


def _finish_what_a_killed_run_left() -> None:
    """dpkg left half-way by a killed run refuses everything until it is told to go on."""
    run(["env", "DEBIAN_FRONTEND=noninteractive", "dpkg", "--configure", "-a"], check=False, timeout=600)
