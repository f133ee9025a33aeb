"""Where things are kept: the state of clusters, and the cache that outlives them."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path

SOURCE = Path(__file__).resolve().parent
# Sockets live below the state folder, and the kernel ends their paths at 107 bytes.
LONGEST_SOCKET = "/kubelet/pod-resources/kubelet.sock"
MACHINE = Path("/run/edgefleet-localkube")


class LocalkubeError(RuntimeError):
    """Something the person at the keyboard can act on; shown without a traceback."""


def state_dir() -> Path:
    """The folder that holds one folder per cluster."""
    chosen = os.environ.get("LOCALKUBE_STATE")
    return Path(chosen).resolve() if chosen else SOURCE.parent / "build" / "localkube"


def cache_dir() -> Path:
    """The folder for what is expensive to make and the same for every cluster."""
    chosen = os.environ.get("EDGEFLEET_CACHE")
    if chosen:
        return Path(chosen).resolve() / "localkube"
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "edgefleet" / "localkube"


@dataclass(frozen=True)
class Cluster:
    """One cluster as it was planned; `cluster.json` in its folder."""

    name: str
    mode: str
    wan_ip: str
    mgmt_ip: str
    api_port: int
    store_port: int
    pods: str
    services: str
    index: int = -1
    token: str = field(default="", repr=False)
    store: str = "kine"
    """What keeps its objects: `kine` (on SQLite) or `etcd`."""

    @property
    def full(self) -> bool:
        """Whether it has a node, and so a network namespace."""
        return self.mode == "full"

    @property
    def home(self) -> Path:
        """Its folder."""
        return state_dir() / self.name

    @property
    def netns(self) -> str | None:
        """Its network namespace."""
        return f"ef-{self.name}" if self.full else None

    @property
    def cgroup(self) -> str:
        """Its control group, in every hierarchy."""
        return f"ef-{self.name}"

    @property
    def pki(self) -> Path:
        """The folder of its keys."""
        return self.home / "pki"

    @property
    def socket(self) -> Path:
        """containerd's socket."""
        return self.home / "containerd.sock"

    @property
    def kubeconfig(self) -> Path:
        """The administrator's kubeconfig, by the mgmt leg."""
        return self.home / "kubeconfig"

    def server(self, leg: str = "mgmt") -> str:
        """The API server's address on one leg."""
        return f"https://{self.wan_ip if leg == 'wan' else self.mgmt_ip}:{self.api_port}"

    def save(self) -> None:
        """Write it down, whole or not at all."""
        self.home.mkdir(parents=True, exist_ok=True)
        draft = self.home / "cluster.json.new"
        draft.touch(mode=0o600)
        draft.write_text(json.dumps(asdict(self), indent=1) + "\n")
        draft.replace(self.home / "cluster.json")


def load(name: str) -> Cluster | None:
    """The cluster of that name, if it was ever begun."""
    record = state_dir() / name / "cluster.json"
    try:
        return Cluster(**json.loads(record.read_text()))
    except FileNotFoundError:
        return None
    except (ValueError, TypeError) as error:
        raise LocalkubeError(
            f"{record} cannot be read ({error}): run `python3 localkube down {name}`"
        ) from error


def known(name: str) -> Cluster:
    """The cluster of that name, or an error that says how to get one."""
    cluster = load(name)
    if cluster is None:
        raise LocalkubeError(f"there is no cluster '{name}': start it with `python3 localkube up {name}`")
    return cluster


def names() -> list[str]:
    """Every name with a folder, even one whose start was cut short before its first record."""
    state = state_dir()
    if not state.is_dir():
        return []
    return sorted(each.name for each in state.iterdir() if each.is_dir() and (each / MARK).exists())


# Says that a folder is a cluster's and may be deleted by `down`.
MARK = ".localkube"
