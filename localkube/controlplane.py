"""Datastore, API server and controllers of one cluster."""

from __future__ import annotations

import base64
import json
import socket
from functools import partial
from typing import TYPE_CHECKING

from localkube import gobuild, processes
from localkube.api import Api
from localkube.plan import Ranges
from localkube.shell import run, wait_for

if TYPE_CHECKING:
    from pathlib import Path

    from localkube.places import Cluster

ISSUER = "https://kubernetes.default.svc.cluster.local"
KINE_OPTIONS = "_journal=WAL&cache=shared&_busy_timeout=30000&_txlock=immediate"
# The most that etcd recommends: at its usual 2 GiB a fleet of thousands would find it read-only.
ETCD_QUOTA = 8 * 2**30


def write_keys(cluster: Cluster) -> None:
    """Certificates, the administrator's token, kubeconfigs."""
    api_ip = Ranges(cluster.pods, cluster.services).api_ip
    hosts = [
        cluster.wan_ip,
        cluster.mgmt_ip,
        "127.0.0.1",
        api_ip,
        "localhost",
        "kubernetes",
        "kubernetes.default",
    ]
    hosts += ["kubernetes.default.svc", "kubernetes.default.svc.cluster.local"]
    binary = gobuild.binary()
    unique = ",".join(dict.fromkeys(hosts))
    run([binary, "pki", "--dir", cluster.pki, "--name", cluster.name, "--hosts", unique])
    tokens = cluster.pki / "tokens.csv"
    tokens.touch(mode=0o600)
    tokens.write_text(f'{cluster.token},admin,admin,"system:masters"\n')
    write_kubeconfig(cluster, "kubeconfig", cluster.server(), {"token": cluster.token})
    if cluster.full:
        write_kubeconfig(cluster, "kubeconfig-wan", cluster.server("wan"), {"token": cluster.token})
    for program in ("controller-manager", "scheduler", "kubelet", "kube-proxy", "addons"):
        files = {
            "client-certificate": f"{cluster.pki}/{program}.crt",
            "client-key": f"{cluster.pki}/{program}.key",
        }
        write_kubeconfig(cluster, f"pki/{program}.kubeconfig", cluster.server(), files)


def write_kubeconfig(cluster: Cluster, file: str, server: str, user: dict[str, str]) -> None:
    """A kubeconfig; JSON is YAML too."""
    authority = base64.b64encode((cluster.pki / "ca.crt").read_bytes()).decode()
    name = cluster.name
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": name, "cluster": {"server": server, "certificate-authority-data": authority}}],
        "users": [{"name": name, "user": user}],
        "contexts": [{"name": name, "context": {"cluster": name, "user": name}}],
        "current-context": name,
    }
    path = cluster.home / file
    path.touch(mode=0o600)
    path.write_text(json.dumps(document, indent=1) + "\n")


def start_api(cluster: Cluster) -> None:
    """The store and the API server. Returns before they answer."""
    binary = gobuild.binary()
    (cluster.home / "data").mkdir(exist_ok=True)
    store: list[str | Path] = [binary, cluster.store, *_store_flags(cluster)]
    processes.start(cluster.home, cluster.store, store, netns=cluster.netns)
    processes.start(
        cluster.home, "kube-apiserver", [binary, "kube-apiserver", *_api_flags(cluster)], netns=cluster.netns
    )


def _store_flags(cluster: Cluster) -> list[str]:
    data, here = cluster.home / "data", f"127.0.0.1:{cluster.store_port}"
    if cluster.store == "kine":
        database = f"sqlite://{data}/state.db?{KINE_OPTIONS}"
        return [f"--endpoint={database}", f"--listen-address=tcp://{here}", "--metrics-bind-address=0"]
    return [
        f"--data-dir={data}/etcd",
        f"--listen-client-urls=http://{here}",
        f"--advertise-client-urls=http://{here}",
        # It has no peers and must listen for them all the same: any port will do.
        "--listen-peer-urls=http://127.0.0.1:0",
        f"--quota-backend-bytes={ETCD_QUOTA}",
        "--enable-grpc-gateway=false",
    ]


def _api_flags(cluster: Cluster) -> list[str]:
    pki = cluster.pki
    flags = [
        f"--etcd-servers=http://127.0.0.1:{cluster.store_port}",
        f"--secure-port={cluster.api_port}",
        f"--bind-address={'0.0.0.0' if cluster.full else cluster.mgmt_ip}",
        f"--advertise-address={cluster.mgmt_ip}",
        f"--tls-cert-file={pki}/apiserver.crt",
        f"--tls-private-key-file={pki}/apiserver.key",
        f"--client-ca-file={pki}/ca.crt",
        f"--token-auth-file={pki}/tokens.csv",
        "--authorization-mode=Node,RBAC",
        "--enable-admission-plugins=NodeRestriction",
        f"--service-cluster-ip-range={cluster.services}",
        f"--service-account-issuer={ISSUER}",
        f"--service-account-key-file={pki}/sa.pub",
        f"--service-account-signing-key-file={pki}/sa.key",
        f"--kubelet-client-certificate={pki}/kubelet-client.crt",
        f"--kubelet-client-key={pki}/kubelet-client.key",
        "--kubelet-preferred-address-types=InternalIP",
        "--allow-privileged=true",
        "--profiling=false",
    ]
    if not cluster.full:
        # A loopback address may not stand in Endpoints, and no pod is there to read them.
        flags.append("--endpoint-reconciler-type=none")
    return flags


def start_controllers(cluster: Cluster) -> None:
    """The controller manager, and the scheduler where there is a node."""
    pki = cluster.pki
    flags = [
        f"--kubeconfig={pki}/controller-manager.kubeconfig",
        "--bind-address=127.0.0.1",
        "--secure-port=0",
        "--leader-elect=false",
        "--profiling=false",
        f"--root-ca-file={pki}/ca.crt",
        f"--service-account-private-key-file={pki}/sa.key",
        f"--cluster-signing-cert-file={pki}/ca.crt",
        f"--cluster-signing-key-file={pki}/ca.key",
        "--cluster-signing-duration=8760h",
        "--use-service-account-credentials=true",
        # Each of some forty controllers fetches a token first; at the usual 20 a second that takes seconds.
        "--kube-api-qps=200",
        "--kube-api-burst=400",
    ]
    binary = gobuild.binary()
    name = "kube-controller-manager"
    processes.start(cluster.home, name, [binary, name, *flags], netns=cluster.netns)
    if cluster.full:
        flags = [
            f"--kubeconfig={pki}/scheduler.kubeconfig",
            "--leader-elect=false",
            "--secure-port=0",
            "--profiling=false",
        ]
        processes.start(
            cluster.home, "kube-scheduler", [binary, "kube-scheduler", *flags], netns=cluster.netns
        )


def wait_for_api(cluster: Cluster, timeout: float = 90) -> None:
    """Until the API server says it is ready."""
    api = Api(cluster)
    alive = partial(processes.must_live, cluster.home, (cluster.store, "kube-apiserver"))
    wait_for(f"{cluster.name}: API server", lambda: api.answers("/readyz"), timeout, alive)


def wait_for_controllers(cluster: Cluster, timeout: float = 60) -> None:
    """Until the first thing the controllers make for every cluster is there."""
    api = Api(cluster)
    alive = partial(processes.must_live, cluster.home, ("kube-apiserver", "kube-controller-manager"))
    path = "/api/v1/namespaces/default/serviceaccounts/default"
    wait_for(f"{cluster.name}: controllers", lambda: api.answers(path), timeout, alive)


def free_port() -> int:
    """A loopback port nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
