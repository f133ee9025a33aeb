"""A real API-only cluster from nothing to nothing."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[2]
pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1800)]  # the first run on a machine builds Kubernetes


def localkube(state: Path, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "localkube", *words],
        cwd=ROOT,
        env={**os.environ, "LOCALKUBE_STATE": str(state)},
        capture_output=True,
        text=True,
        check=check,
    )


def processes_naming(folder: Path) -> list[str]:
    found = []
    for entry in Path("/proc").iterdir():
        try:
            words = (entry / "cmdline").read_bytes().decode(errors="replace").replace("\0", " ")
        except OSError:
            continue
        if entry.name.isdigit() and int(entry.name) != os.getpid() and f"{folder}/" in words:
            found.append(words)
    return found


@pytest.fixture(scope="module")
def binary(tmp_path_factory: pytest.TempPathFactory) -> str:
    built = localkube(tmp_path_factory.mktemp("none"), "binary", check=False)
    if built.returncode != 0:
        pytest.skip(f"Kubernetes cannot be built here: {built.stderr[-500:]}")
    return built.stdout.strip()


@pytest.fixture(scope="module")
def state(binary: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    assert binary
    folder = tmp_path_factory.mktemp("state")
    localkube(folder, "up", "one", "--api-only")
    yield folder
    localkube(folder, "down")
    assert processes_naming(folder) == []
    assert not folder.exists()


class Kubectl:
    def __init__(self, binary: str, state: Path, name: str = "one") -> None:
        self._base = [binary, "kubectl", "--kubeconfig", localkube(state, "kubeconfig", name).stdout.strip()]

    def __call__(self, *words: str, text: str | None = None, check: bool = True) -> str:
        done = subprocess.run(
            [*self._base, *words], input=text, capture_output=True, text=True, check=check, timeout=60
        )
        return done.stdout


@pytest.fixture
def kubectl(binary: str, state: Path) -> Kubectl:
    return Kubectl(binary, state)


def eventually(question: str, kubectl: Kubectl, *words: str) -> str:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        if answer := kubectl(*words, check=False).strip():
            return answer
        time.sleep(0.2)
    pytest.fail(f"not within 30 s: {question}")


def test_the_server_is_the_kubernetes_that_k3s_carries(kubectl: Kubectl) -> None:
    version = json.loads(kubectl("version", "-o", "json"))
    assert version["serverVersion"]["gitVersion"] == "v1.36.3"


def test_an_approved_request_gets_a_certificate_that_opens_one_namespace(
    kubectl: Kubectl, binary: str, state: Path, tmp_path: Path
) -> None:
    if shutil.which("openssl") is None:
        pytest.skip("openssl makes the request; it is not installed")
    key, request = tmp_path / "key", tmp_path / "csr"
    words = [
        "openssl",
        "req",
        "-new",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-keyout",
        str(key),
        "-subj",
        "/O=sites/CN=site-1",
    ]
    subprocess.run([*words, "-out", str(request)], check=True, capture_output=True)
    body = {
        "apiVersion": "certificates.k8s.io/v1",
        "kind": "CertificateSigningRequest",
        "metadata": {"name": "site-1"},
        "spec": {
            "request": base64.b64encode(request.read_bytes()).decode(),
            "signerName": "kubernetes.io/kube-apiserver-client",
            "usages": ["client auth"],
        },
    }
    kubectl("apply", "-f", "-", text=json.dumps(body))
    kubectl("certificate", "approve", "site-1")
    path = "jsonpath={.status.certificate}"
    certificate = eventually("the certificate is there", kubectl, "get", "csr", "site-1", "-o", path)
    (tmp_path / "crt").write_bytes(base64.b64decode(certificate))
    kubectl("create", "namespace", "site-1")
    kubectl("create", "rolebinding", "site-1", "--clusterrole=view", "--user=site-1", "-n", "site-1")
    facts = json.loads(localkube(state, "info", "one").stdout)
    as_site = [binary, "kubectl", "--kubeconfig=/dev/null", "--server", facts["api_server_wan"]]
    as_site += ["--certificate-authority", facts["ca_file"], "--client-certificate", str(tmp_path / "crt")]
    as_site += ["--client-key", str(key), "get", "configmaps", "--namespace"]
    own = subprocess.run([*as_site, "site-1"], capture_output=True, text=True)
    assert own.returncode == 0, own.stderr
    foreign = subprocess.run([*as_site, "default"], capture_output=True, text=True)
    assert foreign.returncode != 0
    assert "site-1" in foreign.stderr, "refused by name, so the certificate was believed"


def test_a_service_account_gets_a_token(kubectl: Kubectl) -> None:
    kubectl("create", "serviceaccount", "robot")
    assert kubectl("create", "token", "robot").count(".") == 2


def test_a_deleted_namespace_goes_away(kubectl: Kubectl) -> None:
    kubectl("create", "namespace", "gone")
    kubectl("delete", "namespace", "gone", "--timeout=30s")


def test_a_second_up_leaves_the_cluster_as_it_is(state: Path) -> None:
    before = localkube(state, "list", "--json").stdout
    again = localkube(state, "up", "one", "--api-only")
    assert "runs already" in again.stderr
    assert localkube(state, "list", "--json").stdout == before
    assert json.loads(before)[0]["status"] == "running"


def test_up_starts_again_what_has_ended_and_keeps_the_data(
    kubectl: Kubectl, binary: str, state: Path
) -> None:
    kubectl("create", "configmap", "kept")
    pid = int((state / "one" / "pids" / "kube-apiserver").read_text().split()[0])
    os.kill(pid, 9)
    deadline = time.monotonic() + 10
    while json.loads(localkube(state, "list", "--json").stdout)[0]["status"] != "broken":
        assert time.monotonic() < deadline, "list shows that it is broken"
    localkube(state, "up", "one", "--api-only")
    assert "kept" in Kubectl(binary, state)("get", "configmaps", "-o", "name")


def listening(pid: int) -> set[str]:
    """Addresses a process listens on, as /proc writes them."""
    own = set()
    for each in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            own.add(str(each.readlink()))
    tables = [Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:] for table in ("tcp", "tcp6")]
    rows = [line.split() for table in tables for line in table]
    return {row[1].partition(":")[0] for row in rows if row[3] == "0A" and f"socket:[{row[9]}]" in own}


def test_etcd_is_a_store_as_well_ends_and_comes_back_with_its_data(binary: str, tmp_path: Path) -> None:
    state = tmp_path / "state"
    up = ("up", "three", "--api-only", "--store", "etcd")
    try:
        localkube(state, *up)
        kubectl = Kubectl(binary, state, "three")
        kubectl("create", "configmap", "kept")
        pid = int((state / "three" / "pids" / "etcd").read_text().split()[0])
        assert listening(pid) == {"0100007F"}, "etcd listens on loopback, and there alone"
        os.kill(pid, 9)
        localkube(state, *up)
        assert "kept" in eventually("the data is there", kubectl, "get", "configmaps", "-o", "name")
        assert json.loads(localkube(state, "list", "--json").stdout)[0]["store"] == "etcd"
    finally:
        localkube(state, "down")
    assert processes_naming(state) == []
    assert not state.exists()


def test_an_up_killed_half_way_leaves_nothing_after_down(binary: str, tmp_path: Path) -> None:
    assert binary
    state = tmp_path / "state"
    environment = {**os.environ, "LOCALKUBE_STATE": str(state)}
    with subprocess.Popen(
        [sys.executable, "localkube", "up", "two", "--api-only"], cwd=ROOT, env=environment
    ) as starting:
        deadline = time.monotonic() + 30
        while not processes_naming(state / "two") and time.monotonic() < deadline:
            time.sleep(0.05)
        starting.kill()
    localkube(state, "down")
    assert processes_naming(state) == []
    assert not state.exists()
