"""Clusters that the user names, of whatever kind: K3s, or anything else that is Kubernetes.

`HUB_CONTEXT` and `SITE_CONTEXTS` (comma separated) are contexts of the kubeconfig; `HUB_SERVER` is the hub's URL
as the sites reach it; `IMAGES` is the registry and prefix the images were pushed to (`make images PUSH=…`);
`REGISTRY` is `host:port/prefix` for bundles, as this machine, hub and sites reach it; `REGISTRY_PLAIN_HTTP=1` if it has
no TLS. The names of the contexts become the names of the EdgeSites.
"""

import os
import re
from collections.abc import Mapping
from pathlib import Path

from demo.cluster import Cluster, CommandError, UnseenError
from demo.fleet import Fleet, Images
from demo.images import TAG

MARKER = "/api/v1/namespaces/kube-system/configmaps/edgefleet-test-cluster"
SITE_NAME = re.compile(r"[a-z]([-a-z0-9]{0,48}[a-z0-9])?")
NEEDED = ("HUB_CONTEXT", "SITE_CONTEXTS", "HUB_SERVER", "IMAGES", "REGISTRY")


def find(environment: Mapping[str, str]) -> Fleet:
    """The fleet that the variables name.

    Raises CommandError naming what is missing, or the cluster that is not marked as one to play with.
    """
    if missing := [name for name in NEEDED if not environment.get(name)]:
        raise CommandError(f"with clusters of yours, set {', '.join(missing)} too (docs/develop.md)")
    kubeconfig = Path(environment.get("KUBECONFIG") or os.path.expanduser("~/.kube/config"))  # noqa: PTH111 - `~` only
    hub = Cluster(environment["HUB_CONTEXT"], kubeconfig, environment["HUB_CONTEXT"])
    sites = {name: Cluster(name, kubeconfig, name) for name in _site_names(environment["SITE_CONTEXTS"])}
    for cluster in (hub, *sites.values()):
        _demand_marker(cluster)
    prefix = environment["IMAGES"].rstrip("/")
    return Fleet(
        hub=hub,
        sites=sites,
        hub_server=environment["HUB_SERVER"],
        registry=environment["REGISTRY"],
        images=Images(f"{prefix}/edgefleet:{TAG}", f"{prefix}/edgepod:{TAG}"),
        plain_http=environment.get("REGISTRY_PLAIN_HTTP") == "1",
    )


def _site_names(contexts: str) -> list[str]:
    names = [name for each in contexts.split(",") if (name := each.strip())]
    for name in names:
        if not SITE_NAME.fullmatch(name):
            raise CommandError(
                f"the context {name!r} cannot name an EdgeSite (small letters, digits and -, at most 50): "
                f"kubectl config rename-context {name} NAME"
            )
    return names


def _demand_marker(cluster: Cluster) -> None:
    try:
        cluster.get(MARKER)
    except UnseenError as unseen:
        raise CommandError(
            f"{cluster.name} is not marked as a cluster to play with ({unseen.status or 'no answer'}). If it is one: "
            f"kubectl --context {cluster.context} -n kube-system create configmap edgefleet-test-cluster"
        ) from unseen
