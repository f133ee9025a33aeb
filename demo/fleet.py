"""A hub and its sites with edgefleet on them: what the story, the e2e tests and the benchmarks run on."""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Protocol

from demo.cluster import ROOT, Cluster, CommandError, condition, program, run
from demo.report import Memory

STATE: Final = ROOT / "build" / "demo"
SYSTEM: Final = "edgefleet-system"
AGENT: Final = "edgefleet-agent"
MODELS: Final = "edgefleet-models"
HEARTBEAT: Final = {"interval": "2s", "offlineAfter": "8s"}
"""Short, so that a cut link shows while one watches; the defaults are two and six minutes."""


class Link(Protocol):
    """What can be done to the link between a site and everything else."""

    def cut(self, site: str) -> None:
        """Nothing passes any more, in either direction."""

    def heal(self, site: str) -> None:
        """Everything passes again."""


@dataclass(frozen=True)
class Images:
    """References of the two images, as kubelets know them."""

    edgefleet: str
    edgepod: str

    def values(self, image: str) -> tuple[str, str]:
        """Repository and tag of one of them."""
        repository, _, tag = image.rpartition(":")
        return repository, tag


@dataclass
class Fleet:
    """Clusters with a way between them. `install` puts edgefleet on them."""

    hub: Cluster
    sites: dict[str, Cluster]
    """The first is the story's canary site."""
    hub_server: str
    """URL under which sites reach the hub's API server."""
    registry: str
    """`host:port[/prefix]` under which this machine, hub and sites reach the registry."""
    images: Images
    link: Link | None = None
    plain_http: bool = True
    keys: Path = field(default=STATE / "keys")

    @property
    def can_cut(self) -> bool:
        """Whether links are ours to cut."""
        return self.link is not None

    def cut(self, site: str) -> None:
        """Cut a site's link. Raises CommandError."""
        assert self.link is not None, "asked before by can_cut"
        self.link.cut(site)

    def heal(self, site: str) -> None:
        """Mend a site's link. Raises CommandError."""
        assert self.link is not None, "asked before by can_cut"
        self.link.heal(site)

    # -- what runs where ------------------------------------------------------------------------------

    def operator_pods(self) -> list[dict[str, Any]]:
        """Pods of the operator."""
        return self.hub.pods(SYSTEM, "app.kubernetes.io/component=hub")

    def agent_pods(self, site: str) -> list[dict[str, Any]]:
        """Pods of a site's agent."""
        return self.sites[site].pods(AGENT, "app.kubernetes.io/component=agent")

    def model_pods(self, site: str, namespace: str, model: str) -> list[dict[str, Any]]:
        """Pods that serve a model on a site, stable and canary."""
        return self.sites[site].pods(MODELS, f"edgefleet.dev/model={namespace}.{model}")

    def memory(self, namespace: str, model: str) -> Memory:
        """Resident memory of the operator, the largest agent and the largest serving pod."""
        operator = [self.hub.resident_mib(SYSTEM, _name(pod)) for pod in self.operator_pods()]
        agents = [
            cluster.resident_mib(AGENT, _name(pod), "agent")
            for site, cluster in self.sites.items()
            for pod in self.agent_pods(site)
        ]
        serving = [
            cluster.resident_mib(MODELS, _name(pod))
            for site, cluster in self.sites.items()
            for pod in self.model_pods(site, namespace, model)
            if pod["status"].get("phase") == "Running"
        ]
        return Memory(_largest(operator), _largest(agents), _largest(serving))

    # -- putting edgefleet on it ------------------------------------------------------------------------

    def install(self, say: Callable[[str], None]) -> None:
        """Install hub and sites as docs/install.md tells users to, and wait until every site has joined.

        Again on a fleet that is up: upgrades in place. Raises CommandError.
        """
        self.make_keys()
        say(f"installing edgefleet on {self.hub.name}")
        self.install_hub()
        for number, site in enumerate(self.sites):
            say(f"{site} joins")
            self.join(site, role="canary" if number == 0 else "rest")
        for site in self.sites:
            self.wait_joined(site)

    def make_keys(self) -> None:
        """A key pair that signs the demo's bundles. Again: the one there is."""
        if not (self.keys / "demo.pub").exists():
            self.keys.mkdir(parents=True, exist_ok=True)
            run([program("edgefleet"), "keys", "create", "--out", self.keys, "--name", "demo"])

    def install_hub(self) -> None:
        """`helm upgrade --install` of the CRDs and the operator. Raises CommandError."""
        self.hub.helm("upgrade", "--install", "edgefleet-crds", "charts/edgefleet-crds")
        self.hub.helm(
            *("upgrade", "--install", "edgefleet", "charts/edgefleet"),
            *("--namespace", SYSTEM, "--create-namespace", "--wait", "--timeout", "3m"),
            *self._shared_values(),
            *self._image_values("podImage", self.images.edgepod),
            # sites beat a hundred times as often as by default, and the story cuts their links
            *("--set", "quarantine.flaps=32,quarantine.flapsWithin=10m"),
        )

    def join(self, site: str, **labels: str) -> None:
        """Make a token, install the agent with it, label the site. Again: only the chart is upgraded."""
        cluster = self.sites[site]
        STATE.mkdir(parents=True, exist_ok=True)
        values = STATE / f"{site}.yaml"
        joined = self.joined(site)
        if not joined or not values.exists():  # another checkout may have joined it
            replace = ("--replace",) if joined else ()
            values.write_text(
                self.hub.edgefleet(
                    "site", "token", site, "--server", self.hub_server, "-o", "values", *replace
                )
            )
            values.chmod(0o600)
        if cluster is not self.hub:
            cluster.helm("upgrade", "--install", "edgefleet-crds", "charts/edgefleet-crds")
        cluster.helm(
            *("upgrade", "--install", "edgefleet-site", "charts/edgefleet-site"),
            *("--namespace", AGENT, "--create-namespace", "--values", str(values)),
            *self._shared_values(),
        )
        spec = {"spec": {"heartbeat": HEARTBEAT}, "metadata": {"labels": labels}}
        self.hub.kubectl("patch", "edgesite", site, "--type", "merge", "-p", json.dumps(spec))

    def joined(self, site: str) -> bool:
        """Whether the hub knows the site's key."""
        try:
            found = self.hub.get(f"/apis/edgefleet.dev/v1alpha1/edgesites/{site}")
        except Exception as error:  # noqa: BLE001 - not there and not reachable are the same answer: not joined
            del error
            return False
        return condition(found, "Joined").get("status") == "True"

    def wait_joined(self, site: str) -> None:
        """Wait until the site has joined and is heard. Raises CommandError."""
        self.hub.kubectl(
            "wait", "--for=condition=Available", f"edgesite/{site}", "--timeout=180s", timeout=200
        )

    def _shared_values(self) -> list[str]:
        options = [*self._image_values("image", self.images.edgefleet)]
        options += ["--set-file", f"trust.publicKeys.demo\\.pub={self.keys / 'demo.pub'}"]
        if self.plain_http:
            options += ["--set-string", f"plainHttpRegistries[0]={self.registry.split('/')[0]}"]
        return options

    def _image_values(self, name: str, image: str) -> list[str]:
        repository, tag = self.images.values(image)
        return ["--set-string", f"{name}.repository={repository}", "--set-string", f"{name}.tag={tag}"]


def wait(what: str, seconds: float, come_about: Callable[[], bool], pause: float = 0.5) -> None:
    """Wait until something holds. Raises CommandError naming it when it does not within `seconds`."""
    deadline = time.monotonic() + seconds
    while not come_about():
        if time.monotonic() > deadline:
            raise CommandError(f"not within {seconds:.0f} s: {what}")
        time.sleep(pause)


def _name(pod: dict[str, Any]) -> str:
    return str(pod["metadata"]["name"])


def _largest(values: list[float | None]) -> float:
    return max((value for value in values if value), default=0)
