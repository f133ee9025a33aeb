"""`make demo-down` on clusters that localkube did not make: what the demo put there goes, the clusters stay."""

from collections.abc import Callable, Mapping

from demo import kind, named, story, traffic
from demo.cluster import Cluster
from demo.fleet import AGENT, MODELS, SYSTEM, Fleet

JOIN = "edgefleet-join"
KINDS = ("edgemodels", "edgerollouts", "edgesites", "edgedeployments", "edgeagents")


def remove(environment: Mapping[str, str], say: Callable[[str], None]) -> None:
    """Take the demo off the clusters that the environment names. Again: nothing happens. Raises CommandError."""
    if environment.get("CLUSTERS") == "kind" and not environment.get("HUB_CONTEXT"):
        kind.down(say)
        return
    take_off(named.find(environment), say)


def take_off(fleet: Fleet, say: Callable[[str], None]) -> None:
    """Models first, by the operator; then agents, operator, namespaces and kinds. Raises CommandError."""
    say(f"{fleet.hub.name}: removing the demo's model")
    if fleet.hub.items("edgemodels", story.NAMESPACE):
        fleet.hub.kubectl("delete", "edgemodel", "--all", "-n", story.NAMESPACE, "--timeout=60s")
    for name, site in fleet.sites.items():
        say(f"{name}: removing the agent and what it serves")
        site.helm("uninstall", "edgefleet-site", "--namespace", AGENT, "--ignore-not-found", "--wait")
        _delete_namespaces(site, AGENT, MODELS, traffic.NAMESPACE)
        # kept by the chart, because pods that go on serving name them; by now there are none
        site.kubectl("delete", "priorityclass", "-l", "app.kubernetes.io/instance=edgefleet-site")
    say(f"{fleet.hub.name}: removing the operator")
    fleet.hub.helm("uninstall", "edgefleet", "--namespace", SYSTEM, "--ignore-not-found", "--wait")
    _delete_requests(fleet)
    of_sites = [f"site-{name}" for name in fleet.sites]
    _delete_namespaces(fleet.hub, *of_sites, story.NAMESPACE, SYSTEM, JOIN)
    for cluster in (fleet.hub, *fleet.sites.values()):
        cluster.helm("uninstall", "edgefleet-crds", "--ignore-not-found")
        kinds = [f"{each}.edgefleet.dev" for each in KINDS]
        cluster.kubectl("delete", "crd", *kinds, "--ignore-not-found")


def _delete_requests(fleet: Fleet) -> None:
    """The certificate requests of the sites, which Kubernetes would keep for another hour."""
    listed = fleet.hub.get("/apis/certificates.k8s.io/v1/certificatesigningrequests")["items"]
    joining = [f"system:serviceaccount:{JOIN}:{name}" for name in fleet.sites]
    renewing = tuple(f"edgefleet:site:{name}:" for name in fleet.sites)
    users = {item["metadata"]["name"]: str(item["spec"].get("username", "")) for item in listed}
    mine = [name for name, user in users.items() if user in joining or user.startswith(renewing)]
    if mine:
        fleet.hub.kubectl("delete", "csr", *mine, "--ignore-not-found")


def _delete_namespaces(cluster: Cluster, *names: str) -> None:
    cluster.kubectl("delete", "namespace", *names, "--ignore-not-found", timeout=300)
