"""Two real full clusters: pods, volumes, names, a wan that is cut and slow, and nothing left at the end."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from localkube import processes

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[2]
HUB, SITE = "lkt-hub", "lkt-site"
IMAGE = "localkube-test:dev"
pytestmark = [
    pytest.mark.e2e,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(os.geteuid() != 0, reason="full clusters need root"),
]
# As strict as a namespace can ask for, so what runs here runs there too.
POD = """
apiVersion: v1
kind: Namespace
metadata: {name: t, labels: {pod-security.kubernetes.io/enforce: restricted}}
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: data, namespace: t}
spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}
---
apiVersion: v1
kind: Service
metadata: {name: front, namespace: t}
spec: {selector: {app: web}, ports: [{port: 80, targetPort: 8080}]}
---
apiVersion: v1
kind: Pod
metadata: {name: web, namespace: t, labels: {app: web}}
spec:
  terminationGracePeriodSeconds: 0
  securityContext: {runAsNonRoot: true, runAsUser: 65532, fsGroup: 65532, seccompProfile: {type: RuntimeDefault}}
  containers:
  - name: web
    image: localkube-test:dev
    imagePullPolicy: IfNotPresent
    command: [sh, -c, "echo started >> /data/log; cd /data; exec python3 -m http.server 8080"]
    resources: {limits: {memory: 64Mi}}
    readinessProbe: {httpGet: {port: 8080, path: /}, periodSeconds: 1}
    securityContext: {allowPrivilegeEscalation: false, readOnlyRootFilesystem: true, capabilities: {drop: [ALL]}}
    volumeMounts: [{name: data, mountPath: /data}]
  volumes: [{name: data, persistentVolumeClaim: {claimName: data}}]
"""
REACHES = "import socket,sys; s=socket.socket(); s.settimeout(2); print(s.connect_ex((sys.argv[1], int(sys.argv[2]))))"
FETCH = "import urllib.request,sys; print(urllib.request.urlopen(sys.argv[1], timeout=5).read().decode())"
SEND = """
import socket, sys
s = socket.create_connection((sys.argv[1], int(sys.argv[2])))
s.sendall(bytes(1_000_000))
"""


class Clusters:
    """Two clusters in a state folder of their own."""

    def __init__(self, state: Path) -> None:
        self.state = state

    def run(self, *words: str) -> str:
        done = subprocess.run(
            [sys.executable, "localkube", *words],
            cwd=ROOT,
            env={**os.environ, "LOCALKUBE_STATE": str(self.state)},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def info(self, name: str) -> dict[str, str]:
        facts: dict[str, str] = json.loads(self.run("info", name))
        return facts

    def kubectl(self, name: str, *words: str, text: str | None = None, check: bool = True) -> str:
        command = [self.run("binary"), "kubectl", "--kubeconfig", self.run("kubeconfig", name), *words]
        done = subprocess.run(command, input=text, capture_output=True, text=True, timeout=90)
        assert done.returncode == 0 or not check, done.stderr
        return done.stdout.strip()

    def in_pod(self, code: str, *words: str) -> str:
        return self.kubectl(SITE, "exec", "-n", "t", "web", "--", "python3", "-c", code, *words)

    def pod_reaches(self, host: str, port: int = 6443) -> bool:
        return self.in_pod(REACHES, host, str(port)) == "0"


@pytest.fixture(scope="module")
def clusters() -> Iterator[Clusters]:
    # Not pytest's own folder: paths of sockets must stay short.
    state = Path(tempfile.mkdtemp(prefix="lkt-"))
    made = Clusters(state / "s")
    try:
        (state / "Dockerfile").write_text("ARG BASE=docker.io/library/python:3.11-slim\nFROM ${BASE}\n")
        archive = str(state / "image.tar")
        build = [
            "--dockerfile",
            str(state / "Dockerfile"),
            "--context",
            str(state),
            "--tag",
            IMAGE,
            "--output",
            archive,
        ]
        made.run("build-image", *build)
        made.run("up", HUB, SITE)
        made.run("load-image", SITE, "--archive", archive)
        made.kubectl(SITE, "apply", "-f", "-", text=POD)
        made.kubectl(SITE, "wait", "-n", "t", "--for=condition=Ready", "pod/web", "--timeout=60s")
        yield made
    finally:
        made.run("down")
        shutil.rmtree(state)
    left = [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if str(state) in line]
    assert left == []
    assert not any(Path("/run/netns", f"ef-{name}").exists() for name in (HUB, SITE))
    assert not [*Path("/sys/fs/cgroup").glob("**/ef-lkt-*")]
    assert not made.state.exists()


def test_a_claim_is_bound_and_writable_for_a_restricted_pod(clusters: Clusters) -> None:
    assert (
        clusters.kubectl(SITE, "get", "pvc", "-n", "t", "data", "-o", "jsonpath={.status.phase}") == "Bound"
    )
    assert clusters.in_pod("print(open('/data/log').read())").startswith("started")


def test_names_and_service_addresses_work_in_pods(clusters: Clusters) -> None:
    assert "started" in clusters.in_pod(FETCH, "http://front.t.svc.cluster.local/log")
    assert "started" in clusters.in_pod(FETCH, "http://front/log")


def test_memory_limits_are_enforced(clusters: Clusters) -> None:
    command = ["exec", "-n", "t", "web", "--", "python3", "-c", "x=bytearray(200<<20); print('had it')"]
    assert "had it" not in clusters.kubectl(SITE, *command, check=False)


def test_a_volumes_data_survives_its_pod(clusters: Clusters) -> None:
    clusters.kubectl(SITE, "delete", "pod", "-n", "t", "web")
    clusters.kubectl(SITE, "apply", "-f", "-", text=POD)
    clusters.kubectl(SITE, "wait", "-n", "t", "--for=condition=Ready", "pod/web", "--timeout=60s")
    assert clusters.in_pod("print(open('/data/log').read().count('started'))") == "2"


def test_pods_reach_the_hub_by_wan_and_not_by_mgmt(clusters: Clusters) -> None:
    hub = clusters.info(HUB)
    assert clusters.pod_reaches(hub["wan_ip"])
    assert not clusters.pod_reaches(hub["mgmt_ip"])


def test_a_cut_takes_the_hub_away_and_leaves_the_site_running(clusters: Clusters) -> None:
    hub = clusters.info(HUB)
    clusters.run("cut", SITE)
    try:
        assert not clusters.pod_reaches(hub["wan_ip"])
        assert not clusters.pod_reaches("198.18.0.1", 1)
        assert "started" in clusters.in_pod(FETCH, "http://front/log")
        statuses = {each["name"]: each["status"] for each in json.loads(clusters.run("list", "--json"))}
        assert statuses == {HUB: "running", SITE: "cut"}
    finally:
        clusters.run("heal", SITE)
    assert clusters.pod_reaches(hub["wan_ip"])


def test_a_shaped_wan_is_as_slow_as_asked(clusters: Clusters) -> None:
    with socket.create_server(("198.18.0.1", 0)) as server:
        server.settimeout(30)
        clusters.run("shape", SITE, "--rate", "2mbit")
        try:
            command = [
                clusters.run("binary"),
                "kubectl",
                "--kubeconfig",
                clusters.run("kubeconfig", SITE),
                "exec",
                "-n",
                "t",
            ]
            command += ["web", "--", "python3", "-c", SEND, "198.18.0.1", str(server.getsockname()[1])]
            with subprocess.Popen(command):
                connection, _ = server.accept()
                began = time.monotonic()
                with connection:
                    received = 0
                    while chunk := connection.recv(65536):
                        received += len(chunk)
                took = time.monotonic() - began
        finally:
            clusters.run("shape", SITE, "--rate", "off")
    assert received == 1_000_000
    assert 1.0e6 < received * 8 / took < 2.3e6


def test_a_cluster_whose_daemons_died_gives_its_name_to_another_checkout(clusters: Clusters) -> None:
    name, (first, second) = "lkt-gone", (Clusters(clusters.state / f"../{each}") for each in "ab")
    try:
        first.run("up", name)
        processes.end(processes.below((first.state / name).resolve()), patience=0.0)
        second.run("up", name)
        assert second.kubectl(name, "get", "nodes", "-o", "name") == f"node/{name}"
    finally:
        second.run("down")
        first.run("down")
    assert not first.state.exists()
    assert not second.state.exists()
