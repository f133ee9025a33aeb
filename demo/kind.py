"""`CLUSTERS=kind`: the same fleet on kind. Needs Docker, kind and kubectl; written by the book, not run by the authors."""

from collections.abc import Callable
from pathlib import Path

from demo import images
from demo.cluster import Cluster, run
from demo.fleet import STATE, Fleet

PREFIX = "edgefleet-"
HUB = "hub"
SITES = ("shop-paris", "shop-rome")
REGISTRY = "edgefleet-registry"


def up(say: Callable[[str], None]) -> Fleet:
    """Create what is not there yet. Links cannot be cut here. Raises CommandError."""
    say("CLUSTERS=kind: this way was never run by the authors; tell us how it went")
    there = run(["kind", "get", "clusters"]).split()
    made = images.build(say)
    clusters = {name: _cluster(name, there) for name in (HUB, *SITES)}
    for name in clusters:
        for archive in made.archives:
            run(["kind", "load", "image-archive", archive, "--name", PREFIX + name])
    if REGISTRY not in run(["docker", "ps", "--all", "--format", "{{.Names}}"]).split():
        run(["docker", "run", "-d", "--name", REGISTRY, "--network", "kind", "-p", "5000:5000", "registry:3"])
    run(["docker", "start", REGISTRY])
    address = run(
        ["docker", "inspect", "-f", "{{.NetworkSettings.Networks.kind.IPAddress}}", REGISTRY]
    ).strip()
    return Fleet(
        hub=clusters[HUB],
        sites={name: clusters[name] for name in SITES},
        hub_server=f"https://{PREFIX}{HUB}-control-plane:6443",
        registry=f"{address}:5000",
        images=made.images,
    )


def down(say: Callable[[str], None]) -> None:
    """Delete the clusters and the registry. Raises CommandError."""
    there = run(["kind", "get", "clusters"]).split()
    for name in (PREFIX + each for each in (HUB, *SITES)):
        if name in there:
            say(f"deleting {name}")
            run(["kind", "delete", "cluster", "--name", name])
    run(["docker", "rm", "--force", REGISTRY])


def _cluster(name: str, there: list[str]) -> Cluster:
    kubeconfig: Path = STATE / f"kind-{name}.kubeconfig"
    kubeconfig.parent.mkdir(parents=True, exist_ok=True)
    if PREFIX + name not in there:
        run(["kind", "create", "cluster", "--name", PREFIX + name, "--wait", "120s"])
    kubeconfig.write_text(run(["kind", "get", "kubeconfig", "--name", PREFIX + name]))
    kubeconfig.chmod(0o600)
    return Cluster(name, kubeconfig)
