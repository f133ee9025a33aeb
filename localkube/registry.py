"""An OCI registry (the CNCF's distribution, as Debian packages it), as a process of our own."""

from __future__ import annotations

import json
import os
import shutil
import socket
from functools import partial
from typing import TYPE_CHECKING

from localkube import claims, packages, places, plan, processes
from localkube.places import LocalkubeError
from localkube.shell import say, wait_for

if TYPE_CHECKING:
    from pathlib import Path

DEFAULT_LISTEN = f"{plan.gateway(plan.WAN)}:5000"
NAME = "docker-registry"


def home() -> Path:
    """Its folder, beside the clusters'."""
    return places.state_dir() / "registry"


def up(listen: str) -> None:
    """Start it unless it runs; its data stays between starts until `down`."""
    host, _, port = listen.rpartition(":")
    if not plan.is_host_ip(host) or not port.isdigit():
        raise LocalkubeError(f"'{listen}' is no address: write it like {DEFAULT_LISTEN}")
    if processes.running(home() / "pids" / NAME) is not None:
        running_at = (home() / "listen").read_text().strip()
        if running_at != listen:
            raise LocalkubeError(
                f"the registry runs at {running_at}: run `python3 localkube registry down` first"
            )
        say(f"registry: runs already at {listen}")
        return
    packages.install(packages.missing(packages.FOR_REGISTRY), "the registry")
    home().mkdir(parents=True, exist_ok=True)
    if host == plan.gateway(plan.WAN):
        if os.geteuid() != 0:
            raise LocalkubeError(
                "only root can make the wan bridge: run as root, or give --listen 127.0.0.1:5000"
            )
        claims.hold("registry", home())
    elif answers(host, int(port)):
        raise LocalkubeError(f"{listen} is taken by another program: give another --listen")
    (home() / "listen").write_text(listen + "\n")
    config = home() / "config.json"
    config.write_text(json.dumps(_config(listen), indent=1))
    program = shutil.which(NAME) or f"/usr/bin/{NAME}"
    processes.start(home(), NAME, [program, "serve", config])
    alive = partial(processes.must_live, home(), (NAME,))
    wait_for("registry", lambda: answers(host, int(port)), 20, alive)
    say(f"registry: http://{listen}")


def _config(listen: str) -> dict[str, object]:
    return {
        "version": 0.1,
        "log": {"level": "warn", "accesslog": {"disabled": True}},
        "storage": {"filesystem": {"rootdirectory": str(home() / "data")}, "delete": {"enabled": True}},
        "http": {"addr": listen, "headers": {"X-Content-Type-Options": ["nosniff"]}},
    }


def answers(host: str, port: int) -> bool:
    """Whether somebody listens there."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex((host, port)) == 0


def down() -> None:
    """End it and delete its data."""
    if not home().exists():
        return
    processes.end([*processes.below(home())], patience=2.0)
    shutil.rmtree(home())
    claims.release(home())
    say("registry: gone")
