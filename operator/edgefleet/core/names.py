"""Every name that two parts of edgefleet must agree on: API group, labels, reasons, field managers."""

from typing import Final

GROUP: Final = "edgefleet.dev"
VERSION: Final = "v1alpha1"
API_VERSION: Final = f"{GROUP}/{VERSION}"
ORDER_VERSION: Final = 1

# -- labels and annotations -------------------------------------------------------------------------
SITE: Final = "edgefleet.dev/site"
"""On a site's namespace on the hub and on every object in it: the name of the EdgeSite."""
MODEL: Final = "edgefleet.dev/model"
"""On orders, mirrors and workloads: `<namespace>.<name>` of the EdgeModel."""
REVISION: Final = "edgefleet.dev/revision"
"""On EdgeRollouts, Deployments and pods. The Service of a model selects exactly one value of it."""
ROLLOUT: Final = "edgefleet.dev/rollout"
ORIGIN: Final = "edgefleet.dev/origin"
"""On an EdgeDeployment in the site's own API server: `hub` when it mirrors an order of the hub."""
ORIGIN_HUB: Final = "hub"
HUB_ORDER: Final = "edgefleet.dev/hub-order"
"""On a mirror: `<uid>/<generation>` of the order it mirrors."""
FINGERPRINT: Final = "edgefleet.dev/fingerprint"
"""On the heartbeat Lease: hash of all orders and the policy meant for the site."""
RETRY: Final = "edgefleet.dev/retry"
"""On an EdgeModel: any new value starts another attempt at a revision that failed."""
RELEASE: Final = "edgefleet.dev/release"
"""On an EdgeSite: when a person released it from quarantine, RFC 3339; evidence from before counts no more."""
PUBLIC_KEY: Final = "edgefleet.dev/public-key-sha256"
"""On a site's namespace on the hub: SHA-256 (hex) of the public key (DER SubjectPublicKeyInfo) that joined."""
JOIN_ACCOUNT: Final = "edgefleet.dev/join-account"
"""On a site's namespace on the hub: uid of the ServiceAccount whose token joined the key above; it can join no other."""
MANAGED_BY: Final = "app.kubernetes.io/managed-by"

# -- field managers: one writer per field -----------------------------------------------------------
OPERATOR_MANAGER: Final = "edgefleet-operator"
AGENT_MANAGER: Final = "edgefleet-agent"
CLI_MANAGER: Final = "edgefleet-cli"

# -- places -----------------------------------------------------------------------------------------
SITE_NAMESPACE_PREFIX: Final = "site-"
JOIN_NAMESPACE: Final = "edgefleet-join"
"""Holds one ServiceAccount per join token, named like the site. Deleting it makes the token worthless."""
LEASE: Final = "heartbeat"
AGENT: Final = "site"
"""Name of the one EdgeAgent in a site's namespace."""
MODEL_FINALIZER: Final = "edgefleet.dev/orders"

# -- identity ---------------------------------------------------------------------------------------
SITES_ORGANIZATION: Final = "edgefleet:sites"
SITE_USER_PREFIX: Final = "edgefleet:site:"


def site_namespace(site: str) -> str:
    """Name of the namespace on the hub that belongs to a site."""
    return SITE_NAMESPACE_PREFIX + site


def site_user(site: str, public_key_sha256: str) -> str:
    """User name (certificate CN) of a site: its name and the first 16 hex digits of its key's SHA-256."""
    return f"{SITE_USER_PREFIX}{site}:{public_key_sha256[:16]}"


def order_name(namespace: str, model: str) -> str:
    """Name of a model's EdgeDeployment, on the hub and in the site's own API server."""
    return f"{namespace}.{model}"


def workload_name(namespace: str, model: str) -> str:
    """Name of a model's Service on a site; its Deployments add `-<revision>`."""
    return f"{namespace}-{model}"
