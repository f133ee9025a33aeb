"""The rights the hub's chart gives, applied to a test's API server, and the operator's own kubeconfig.

Tests run the operator and the sites with exactly these rights, never as an administrator.
"""

import asyncio
import base64
import contextlib
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import yaml
from edgefleet.kube import errors, kinds
from edgefleet.kube.client import Api, Object
from edgefleet.kube.kinds import Kind
from support.cluster import LOCALKUBE, ROOT, admin, put
from support.fake_agent import ca_of

NAMESPACE: Final = "edgefleet-system"
ACCOUNT: Final = "edgefleet-operator"
_RIGHTS: Final[dict[str, Kind]] = {
    "Namespace": kinds.NAMESPACE,
    "ServiceAccount": kinds.SERVICE_ACCOUNT,
    "ClusterRole": kinds.CLUSTER_ROLE,
    "ClusterRoleBinding": kinds.CLUSTER_ROLE_BINDING,
    "Role": Kind("Role", "roles", "v1", "rbac.authorization.k8s.io"),
    "RoleBinding": kinds.ROLE_BINDING,
}


def rendered() -> list[Object]:
    """What `helm template` makes of the chart."""
    helm = subprocess.run(
        [*LOCALKUBE, "helm"],
        capture_output=True,
        text=True,
        check=True,
        stdin=subprocess.DEVNULL,
        timeout=900,
    ).stdout.strip()
    key = "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEA\n-----END PUBLIC KEY-----\n"
    values = yaml.safe_dump({"trust": {"publicKeys": {"release.pem": key}}})
    command = [helm, "template", "edgefleet", str(ROOT / "charts/edgefleet"), "-n", NAMESPACE, "-f", "-"]
    done = subprocess.run(command, input=values, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return [document for document in yaml.safe_load_all(done.stdout) if document]


def rights() -> list[Object]:
    """Namespaces, accounts, roles and bindings among it, in the order they can be created."""
    order = list(_RIGHTS)
    mine = [
        raw
        for raw in rendered()
        if raw["kind"] in order and "helm.sh/hook" not in (raw["metadata"].get("annotations") or {})
    ]
    return sorted(mine, key=lambda raw: order.index(raw["kind"]))


async def install(kubeconfig: Path, folder: Path) -> Path:
    """Apply the chart's rights; returns a kubeconfig of the operator's ServiceAccount."""
    documents = await asyncio.to_thread(rights)
    async with admin(kubeconfig) as api:
        with contextlib.suppress(errors.AlreadyExists):
            await api.create(kinds.NAMESPACE, None, {"metadata": {"name": NAMESPACE}})
        for raw in documents:
            await put(api, _RIGHTS[raw["kind"]], raw["metadata"].get("namespace"), raw)
        return await _kubeconfig(api, folder)


async def _kubeconfig(api: Api, folder: Path) -> Path:
    asked = {
        "apiVersion": "authentication.k8s.io/v1",
        "kind": "TokenRequest",
        "spec": {"expirationSeconds": 24 * 3600},
    }
    answer = await api.create(kinds.SERVICE_ACCOUNT, NAMESPACE, asked, name=ACCOUNT, sub="token")
    where = await api.connection()
    authority = base64.b64encode(ca_of(where)).decode()
    config: dict[str, Any] = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [
            {"name": "hub", "cluster": {"server": where.server, "certificate-authority-data": authority}}
        ],
        "users": [{"name": ACCOUNT, "user": {"token": answer["status"]["token"]}}],
        "contexts": [{"name": "hub", "context": {"cluster": "hub", "user": ACCOUNT}}],
        "current-context": "hub",
    }
    path = folder / "operator.kubeconfig"
    path.write_text(yaml.safe_dump(config))
    return path


if __name__ == "__main__":
    print(asyncio.run(install(Path(sys.argv[1]), Path(sys.argv[2]))))
