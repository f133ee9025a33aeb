"""The one node of a full cluster: containerd, kubelet, kube-proxy, DNS and volumes."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from localkube import cgroups, gobuild, packages, processes
from localkube.api import Api
from localkube.archive import write_pause_image
from localkube.plan import Ranges
from localkube.shell import run, succeeds, wait_for

if TYPE_CHECKING:
    from localkube.places import Cluster

PAUSE = "localkube.edgefleet.dev/pause:1"
STORAGE_CLASS = "local-path"
PROVISIONER = "localkube.edgefleet.dev/folder"
CAP_SYS_RESOURCE = 24


def start_containerd(cluster: Cluster) -> None:
    """The container runtime with its own socket, root and network plugins."""
    cni = cluster.home / "cni"
    cni.mkdir(exist_ok=True)
    (cni / "10-localkube.conflist").write_text(json.dumps(_cni(cluster), indent=1))
    config = cluster.home / "containerd.toml"
    config.write_text(_containerd_config(cluster))
    processes.start(cluster.home, "containerd", ["containerd", "--config", config], netns=cluster.netns)


def _cni(cluster: Cluster) -> dict[str, object]:
    # ptp and not bridge: every packet between pods is routed, so service addresses
    # work without the kernel module br_netfilter.
    ipam = {
        "type": "host-local",
        "dataDir": str(cluster.home / "cni-leases"),
        "ranges": [[{"subnet": cluster.pods}]],
        "routes": [{"dst": "0.0.0.0/0"}],
    }
    plugins = [
        {"type": "ptp", "ipMasq": False, "ipam": ipam},
        {"type": "portmap", "capabilities": {"portMappings": True}},
    ]
    return {"cniVersion": "0.4.0", "name": cluster.cgroup, "plugins": plugins}


def _containerd_config(cluster: Cluster) -> str:
    """Version 2 is read by containerd 1.x as it is and by 2.x through its own migration."""
    folder = packages.cni_folder() or packages.CNI_FOLDERS[0]
    return f"""version = 2
root = "{cluster.home}/containerd"
state = "{cluster.home}/containerd-run"
disabled_plugins = ["io.containerd.internal.v1.tracing", "io.containerd.snapshotter.v1.zfs", "io.containerd.snapshotter.v1.btrfs"]
[grpc]
  address = "{cluster.socket}"
[debug]
  level = "warn"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{PAUSE}"
  restrict_oom_score_adj = {str(not _may_lower_oom_score()).lower()}
  netns_mounts_under_state_dir = true
  stream_server_address = "127.0.0.1"
[plugins."io.containerd.grpc.v1.cri".cni]
  bin_dir = "{folder}"
  conf_dir = "{cluster.home}/cni"
[plugins."io.containerd.grpc.v1.cri".containerd]
  snapshotter = "{_snapshotter(cluster)}"
  default_runtime_name = "runc"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
  runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
  SystemdCgroup = false
  Root = "{cluster.home}/runc"
[plugins."io.containerd.nri.v1.nri"]
  disable = true
[plugins."io.containerd.internal.v1.opt"]
  path = "{cluster.home}/containerd-opt"
"""


def _may_lower_oom_score() -> bool:
    status = Path("/proc/self/status").read_text()
    effective = next(line.split()[1] for line in status.splitlines() if line.startswith("CapEff:"))
    return bool(int(effective, 16) >> CAP_SYS_RESOURCE & 1)


def _snapshotter(cluster: Cluster) -> str:
    """An overlay cannot lie on an overlay: inside a container, files are copied instead."""
    kind = run(["stat", "-f", "-c", "%T", cluster.home]).strip()
    return "native" if kind == "overlayfs" else "overlayfs"


def ctr(cluster: Cluster, *words: str | Path) -> list[str | Path]:
    """A `ctr` command against this cluster's containerd."""
    return ["ctr", "--address", cluster.socket, "--namespace", "k8s.io", *words]


def wait_for_containerd(cluster: Cluster) -> None:
    """Until it answers and has the pause image."""
    alive = partial(processes.must_live, cluster.home, ("containerd",))
    wait_for(f"{cluster.name}: containerd", lambda: succeeds(ctr(cluster, "version")), 60, alive)
    if PAUSE not in run(ctr(cluster, "images", "ls", "-q")):
        archive = cluster.home / "pause.tar"
        write_pause_image(archive, gobuild.pause_binary(), PAUSE)
        run(ctr(cluster, "images", "import", archive))
        archive.unlink()


def start_kubelet(cluster: Cluster) -> datetime | None:
    """kubelet, with its pods in the cluster's own control group. Says when, unless it ran already."""
    if processes.running(cluster.home / "pids" / "kubelet") is not None:
        return None
    cgroups.create(cluster.cgroup)
    resolv = cluster.home / "resolv.conf"
    resolv.write_text("")
    config = cluster.home / "kubelet.json"
    config.write_text(json.dumps(_kubelet_config(cluster), indent=1))
    flags = [
        f"--config={config}",
        f"--kubeconfig={cluster.pki}/kubelet.kubeconfig",
        f"--root-dir={cluster.home}/kubelet",
        f"--cert-dir={cluster.home}/kubelet-pki",
        f"--hostname-override={cluster.name}",
        f"--node-ip={cluster.mgmt_ip}",
    ]
    processes.start(cluster.home, "kubelet", [gobuild.binary(), "kubelet", *flags], netns=cluster.netns)
    # Kubernetes tells times in whole seconds.
    return datetime.now(UTC).replace(microsecond=0)


def _kubelet_config(cluster: Cluster) -> dict[str, object]:
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": f"{cluster.pki}/ca.crt"},
        },
        "authorization": {"mode": "Webhook"},
        "containerRuntimeEndpoint": f"unix://{cluster.socket}",
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": f"/{cluster.cgroup}",
        "failCgroupV1": False,
        "failSwapOn": False,
        "enforceNodeAllocatable": [],
        "clusterDNS": [Ranges(cluster.pods, cluster.services).dns_ip],
        "clusterDomain": "cluster.local",
        "resolvConf": str(cluster.home / "resolv.conf"),
        "podLogsDir": str(cluster.home / "pod-logs"),
        "volumePluginDir": str(cluster.home / "kubelet-plugins"),
        "evictionHard": {"memory.available": "100Mi", "nodefs.available": "1%", "imagefs.available": "1%"},
        # Images come by hand and cannot be pulled again: never tidy them away.
        "imageGCHighThresholdPercent": 100,
        "maxPods": 110,
        "nodeStatusUpdateFrequency": "5s",
        "shutdownGracePeriod": "0s",
    }


def start_proxy(cluster: Cluster) -> None:
    """kube-proxy. Conntrack settings belong to the whole machine and stay as they are."""
    flags = [
        f"--kubeconfig={cluster.pki}/kube-proxy.kubeconfig",
        f"--hostname-override={cluster.name}",
        f"--cluster-cidr={cluster.pods}",
        "--proxy-mode=iptables",
        "--conntrack-max-per-core=0",
        "--conntrack-tcp-timeout-established=0",
        "--conntrack-tcp-timeout-close-wait=0",
        "--healthz-bind-address=127.0.0.1:10256",
        "--metrics-bind-address=127.0.0.1:10249",
    ]
    processes.start(cluster.home, "kube-proxy", [gobuild.binary(), "kube-proxy", *flags], netns=cluster.netns)


def start_addons(cluster: Cluster) -> None:
    """DNS and volumes, and the objects that make them known to the cluster."""
    api = Api(cluster)
    for path, body in _objects(cluster):
        api.apply(path, body)
    corefile = cluster.home / "Corefile"
    corefile.write_text(_corefile(cluster))
    volumes = cluster.home / "volumes"
    volumes.mkdir(exist_ok=True)
    flags: list[str | Path] = [
        "-conf",
        corefile,
        "-kubeconfig",
        cluster.pki / "addons.kubeconfig",
        "-volumes",
        volumes,
    ]
    flags += ["-node", cluster.name, "-storage-class", STORAGE_CLASS]
    processes.start(cluster.home, "addons", [gobuild.binary(), "addons", *flags], netns=cluster.netns)


def _corefile(cluster: Cluster) -> str:
    return f"""cluster.local:53 in-addr.arpa:53 ip6.arpa:53 {{
    bind {cluster.mgmt_ip}
    errors
    kubernetes cluster.local in-addr.arpa ip6.arpa {{
        kubeconfig {cluster.pki}/addons.kubeconfig
        pods insecure
    }}
    cache 5
}}
.:53 {{
    bind {cluster.mgmt_ip}
    template ANY ANY {{
        rcode NXDOMAIN
    }}
}}
"""


def _objects(cluster: Cluster) -> list[tuple[str, dict[str, object]]]:
    dns = Ranges(cluster.pods, cluster.services).dns_ip
    ports = [
        {"name": "dns", "port": 53, "protocol": "UDP"},
        {"name": "dns-tcp", "port": 53, "protocol": "TCP"},
    ]
    labels = {"kubernetes.io/service-name": "kube-dns", "endpointslice.kubernetes.io/managed-by": "localkube"}
    system = "namespaces/kube-system"
    service: dict[str, object] = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "kube-dns", "namespace": "kube-system"},
        "spec": {"clusterIP": dns, "ports": ports},
    }
    endpoints: dict[str, object] = {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": "kube-dns-localkube", "namespace": "kube-system", "labels": labels},
        "addressType": "IPv4",
        "endpoints": [{"addresses": [cluster.mgmt_ip], "conditions": {"ready": True}}],
        "ports": ports,
    }
    storage: dict[str, object] = {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": {
            "name": STORAGE_CLASS,
            "annotations": {"storageclass.kubernetes.io/is-default-class": "true"},
        },
        "provisioner": PROVISIONER,
        "reclaimPolicy": "Delete",
        "volumeBindingMode": "Immediate",
    }
    return [
        (f"/api/v1/{system}/services/kube-dns", service),
        (f"/apis/discovery.k8s.io/v1/{system}/endpointslices/kube-dns-localkube", endpoints),
        (f"/apis/storage.k8s.io/v1/storageclasses/{STORAGE_CLASS}", storage),
    ]


def wait_for_node(cluster: Cluster, since: datetime | None, timeout: float = 120) -> None:
    """Until the node says Ready and every daemon lives."""
    api = Api(cluster)
    names = (
        "containerd",
        "kubelet",
        "kube-proxy",
        "addons",
        "kube-scheduler",
        "kube-controller-manager",
        "kube-apiserver",
    )
    alive = partial(processes.must_live, cluster.home, names)
    wait_for(f"{cluster.name}: node Ready", lambda: api.node_ready(cluster.name, since), timeout, alive)
    alive()


def is_root() -> bool:
    """Whether this command may make namespaces and mounts."""
    return os.geteuid() == 0
