"""The start of a cluster, in steps that each look first: run again, it goes on where it stopped."""

from __future__ import annotations

import fcntl
import secrets
import time
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from localkube import claims, controlplane, network, node, places, plan, processes, teardown
from localkube.api import Api
from localkube.places import MARK, Cluster, LocalkubeError
from localkube.shell import say

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from typing import IO

API_PORT = 6443
STORE_PORT = 2379
STORES = ("kine", "etcd")
DAEMONS_API = ("kube-apiserver", "kube-controller-manager")
DAEMONS_FULL = (*DAEMONS_API, "kube-scheduler", "containerd", "kubelet", "kube-proxy", "addons")


@contextmanager
def locked(name: str) -> Iterator[None]:
    """One command at a time for each cluster."""
    with _lock_of(places.state_dir() / name) as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"{name}: another command is busy with it; waiting")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextmanager
def _lock_of(home: Path) -> Iterator[IO[str]]:
    folder = home.parent / ".locks"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / home.name).open("w") as lock:
        yield lock


def daemons(cluster: Cluster) -> tuple[str, ...]:
    """The daemons it has when it runs."""
    return (cluster.store, *(DAEMONS_FULL if cluster.full else DAEMONS_API))


def is_running(cluster: Cluster) -> bool:
    """Whether every daemon lives."""
    return all(processes.running(cluster.home / "pids" / name) for name in daemons(cluster))


def status(cluster: Cluster) -> str:
    """One word for `list`."""
    alive = sum(processes.running(cluster.home / "pids" / name) is not None for name in daemons(cluster))
    if alive == 0:
        return "stopped"
    if alive < len(daemons(cluster)):
        return "broken"
    if cluster.full and network.is_cut(cluster):
        return "cut"
    return "running"


def prepare(name: str, *, full: bool, store: str | None = None) -> None:
    """Give a cluster its address. One after the other, so that the first named gets the first."""
    with locked(name):
        _planned(name, full=full, store=store)


def up(name: str, *, full: bool, store: str | None = None) -> None:
    """Bring one cluster up, or finish what an earlier command began. Without `store`: the one it has, else kine."""
    with locked(name):
        began = time.monotonic()
        cluster = _planned(name, full=full, store=store)
        if is_running(cluster) and Api(cluster).answers("/readyz"):
            say(f"{name}: runs already")
            return
        controlplane.write_keys(cluster)
        if full:
            _start_full(cluster, began)
        else:
            _start_api_only(cluster)
        say(f"{name}: up ({time.monotonic() - began:.1f} s)")


def _planned(name: str, *, full: bool, store: str | None) -> Cluster:
    home = places.state_dir() / name
    home.mkdir(parents=True, exist_ok=True)
    (home / MARK).touch()
    cluster = places.load(name)
    mode = "full" if full else "api-only"
    if cluster is not None and cluster.mode != mode:
        raise LocalkubeError(
            f"'{name}' is there as {cluster.mode}: run `python3 localkube down {name}` first"
        )
    if cluster is not None and store not in (None, cluster.store):
        raise LocalkubeError(
            f"'{name}' is there with {cluster.store}: run `python3 localkube down {name}` first"
        )
    if cluster is None:
        cluster = _new_full(name) if full else _new_api_only(name, store or STORES[0])
        cluster.save()
    elif full:
        # The claim lives in /run and is gone after a restart of the machine.
        _take_over(name, home)
        claims.take_index(name, home, cluster.index)
    elif processes.running(home / "pids" / "kube-apiserver") is None:
        processes.end_named(home, daemons(cluster), patience=1.0)
        cluster = replace(cluster, api_port=controlplane.free_port(), store_port=controlplane.free_port())
        cluster.save()
    return cluster


def _take_over(name: str, home: Path) -> None:
    """Free the name of a cluster that another checkout left behind without a running daemon."""
    other = claims.holder(name)
    if other is None or other == home or not other.exists() or processes.below(other):
        return
    with _lock_of(other) as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return  # it is being started this moment: `take_index` says whose it is
        if not processes.below(other):
            say(f"{name}: nothing runs of the one in {other}; taking its name over")
            teardown.let_go(name, other)
            claims.release(other)


def _new_full(name: str) -> Cluster:
    home = places.state_dir() / name
    _take_over(name, home)
    index = claims.take_index(name, home)
    at = plan.addresses(index)
    inner = plan.ranges(network.own_networks())
    return Cluster(
        name=name,
        mode="full",
        wan_ip=at.wan_ip,
        mgmt_ip=at.mgmt_ip,
        api_port=API_PORT,
        store_port=STORE_PORT,
        pods=inner.pods,
        services=inner.services,
        index=index,
        token=secrets.token_urlsafe(32),
    )


def _new_api_only(name: str, store: str) -> Cluster:
    pods, services = plan.CANDIDATES[0]
    here = "127.0.0.1"
    ports = (controlplane.free_port(), controlplane.free_port())
    token = secrets.token_urlsafe(32)
    return Cluster(name, "api-only", here, here, *ports, pods, services, token=token, store=store)


def _start_api_only(cluster: Cluster) -> None:
    controlplane.start_api(cluster)
    controlplane.wait_for_api(cluster)
    controlplane.start_controllers(cluster)
    controlplane.wait_for_controllers(cluster)


def _start_full(cluster: Cluster, began: float) -> None:
    def told(what: str) -> None:
        say(f"{cluster.name}: {what} ({time.monotonic() - began:.1f} s)")

    network.namespace_up(cluster)
    controlplane.start_api(cluster)
    node.start_containerd(cluster)
    node.wait_for_containerd(cluster)
    told("containerd answers")
    controlplane.wait_for_api(cluster)
    told("API server answers")
    since = node.start_kubelet(cluster)
    controlplane.start_controllers(cluster)
    node.start_addons(cluster)
    node.start_proxy(cluster)
    node.wait_for_node(cluster, since)
    told("node Ready")
    controlplane.wait_for_controllers(cluster)
