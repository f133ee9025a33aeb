"""The kinds of object edgefleet reads or writes, and where the API server keeps them."""

from dataclasses import dataclass
from typing import Final

from edgefleet.core import names


@dataclass(frozen=True, slots=True)
class Kind:
    """One resource of an API server."""

    name: str
    """Kind, e.g. `EdgeModel`."""
    plural: str
    version: str = "v1"
    group: str = ""
    namespaced: bool = True

    @property
    def api_version(self) -> str:
        """`group/version`, or the version alone in the core group."""
        return f"{self.group}/{self.version}" if self.group else self.version

    def path(self, namespace: str | None = None, name: str | None = None, sub: str | None = None) -> str:
        """URL path of a collection, an object or a subresource (`status`, `token`, `approval`).

        Raises ValueError for a namespace on a cluster-scoped kind and for a named object without one.
        """
        if namespace and not self.namespaced:
            raise ValueError(f"{self.name} is cluster-scoped; leave out namespace {namespace!r}")
        if name and self.namespaced and not namespace:
            raise ValueError(f"{self.name} {name!r} needs a namespace")
        parts = ["/apis", self.group, self.version] if self.group else ["/api", self.version]
        if namespace:
            parts += ["namespaces", namespace]
        parts += [self.plural, *([name] if name else []), *([sub] if sub else [])]
        return "/".join(parts)


def _ours(name: str, plural: str, *, namespaced: bool = True) -> Kind:
    return Kind(name, plural, names.VERSION, names.GROUP, namespaced)


EDGE_MODEL: Final = _ours("EdgeModel", "edgemodels")
EDGE_SITE: Final = _ours("EdgeSite", "edgesites", namespaced=False)
EDGE_ROLLOUT: Final = _ours("EdgeRollout", "edgerollouts")
EDGE_AGENT: Final = _ours("EdgeAgent", "edgeagents")
EDGE_DEPLOYMENT: Final = _ours("EdgeDeployment", "edgedeployments")

NAMESPACE: Final = Kind("Namespace", "namespaces", namespaced=False)
NODE: Final = Kind("Node", "nodes", namespaced=False)
SECRET: Final = Kind("Secret", "secrets")
CONFIG_MAP: Final = Kind("ConfigMap", "configmaps")
SERVICE: Final = Kind("Service", "services")
SERVICE_ACCOUNT: Final = Kind("ServiceAccount", "serviceaccounts")
POD: Final = Kind("Pod", "pods")
CLAIM: Final = Kind("PersistentVolumeClaim", "persistentvolumeclaims")
DEPLOYMENT: Final = Kind("Deployment", "deployments", "v1", "apps")
JOB: Final = Kind("Job", "jobs", "v1", "batch")
LEASE: Final = Kind("Lease", "leases", "v1", "coordination.k8s.io")
ENDPOINT_SLICE: Final = Kind("EndpointSlice", "endpointslices", "v1", "discovery.k8s.io")
ROLE_BINDING: Final = Kind("RoleBinding", "rolebindings", "v1", "rbac.authorization.k8s.io")
CLUSTER_ROLE: Final = Kind("ClusterRole", "clusterroles", "v1", "rbac.authorization.k8s.io", namespaced=False)
CLUSTER_ROLE_BINDING: Final = Kind(
    "ClusterRoleBinding", "clusterrolebindings", "v1", "rbac.authorization.k8s.io", namespaced=False
)
CSR: Final = Kind(
    "CertificateSigningRequest",
    "certificatesigningrequests",
    "v1",
    "certificates.k8s.io",
    namespaced=False,
)
CRD: Final = Kind(
    "CustomResourceDefinition",
    "customresourcedefinitions",
    "v1",
    "apiextensions.k8s.io",
    namespaced=False,
)
