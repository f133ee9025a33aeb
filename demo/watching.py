"""Looks at hub and sites, once per call, and remembers what only shows in passing."""

import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from demo.cluster import UnseenError, condition
from demo.fleet import Fleet
from demo.traffic import Totals, Traffic

MODELS_NAMESPACE = "edgefleet-models"


@dataclass(frozen=True)
class SiteView:
    """One site at one moment. `report` is the site's own word, `connectivity` the hub's."""

    connectivity: str
    report: Mapping[str, Any]
    order: Mapping[str, Any]
    totals: Totals

    @property
    def stage(self) -> str:
        """Where the site is with its order."""
        return str(self.report.get("stage", ""))

    @property
    def serving_bundle(self) -> str:
        """Digest of the bundle the site's Service selects."""
        return str(self.report.get("activeBundle", ""))


@dataclass(frozen=True)
class Picture:
    """Everything at one moment. What could not be seen is empty."""

    at: float
    """Monotonic seconds."""
    model: Mapping[str, Any]
    rollouts: tuple[Mapping[str, Any], ...]
    sites: Mapping[str, SiteView]

    def settled(self) -> bool:
        """Whether the hub has looked at the spec as it is."""
        generation = self.model.get("metadata", {}).get("generation")
        return bool(generation) and self.model.get("status", {}).get("observedGeneration") == generation

    def condition(self, kind: str) -> dict[str, Any]:
        """A condition of the EdgeModel, or an empty dictionary."""
        return condition(dict(self.model), kind)

    def all_serve(self, digest: str) -> bool:
        """Whether every site serves the bundle."""
        return all(site.serving_bundle == digest for site in self.sites.values())

    def totals(self) -> Totals:
        """Requests of all sites together."""
        total = Totals()
        for site in self.sites.values():
            total += site.totals
        return total


@dataclass
class Watcher:
    """Takes pictures and keeps what vanishes between them: bytes pulled, moments of change."""

    fleet: Fleet
    traffic: Traffic
    namespace: str
    model: str
    pulled: dict[tuple[str, str], int] = field(default_factory=dict)
    """Bytes by site and revision."""
    moments: list[tuple[float, str, str, str]] = field(default_factory=list)
    """(monotonic seconds, site, stage, revision or canary step) at each change."""
    _last: dict[str, tuple[str, str]] = field(default_factory=dict)

    def look(self) -> Picture:
        """Take a picture. A cluster that does not answer shows as empty, not as an error."""
        model, rollouts, connectivity = self._hub()
        sites = {name: self._site(name, connectivity.get(name, "")) for name in self.fleet.sites}
        picture = Picture(time.monotonic(), model, rollouts, sites)
        for name, site in sites.items():
            self._remember(picture.at, name, site)
        return picture

    def pulled_total(self) -> int:
        """Model bytes all sites have pulled so far."""
        return sum(self.pulled.values())

    def _hub(self) -> tuple[Mapping[str, Any], tuple[Mapping[str, Any], ...], dict[str, str]]:
        try:
            models = self.fleet.hub.items("edgemodels", self.namespace)
            rollouts = self.fleet.hub.items("edgerollouts", self.namespace)
            sites = self.fleet.hub.items("edgesites")
        except UnseenError:
            return {}, (), {}
        model = next((each for each in models if each["metadata"]["name"] == self.model), {})
        mine = [each for each in rollouts if each["spec"].get("model") == self.model]
        links = {each["metadata"]["name"]: each.get("status", {}).get("connectivity", "") for each in sites}
        return model, tuple(sorted(mine, key=_attempt)), links

    def _site(self, name: str, connectivity: str) -> SiteView:
        order: dict[str, Any] = {}
        try:
            mirrors = self.fleet.sites[name].items("edgedeployments", MODELS_NAMESPACE)
            wanted = f"{self.namespace}.{self.model}"
            order = next((each for each in mirrors if each["metadata"]["name"] == wanted), {})
        except UnseenError:
            pass  # shown as empty; the caller's patience decides whether that is a failure
        return SiteView(
            connectivity, order.get("status", {}), order.get("spec", {}), self.traffic.totals(name)
        )

    def _remember(self, at: float, name: str, site: SiteView) -> None:
        download, revision = site.report.get("download") or {}, str(site.order.get("revision", ""))
        if done := int(download.get("done", 0)):
            key = (name, revision)
            self.pulled[key] = max(self.pulled.get(key, 0), done - int(download.get("saved", 0)))
        canary = site.report.get("canary") or {}
        detail = (
            f"{revision} step {canary['step']}" if site.stage == "Canary" and "step" in canary else revision
        )
        if self._last.get(name) != (site.stage, detail):
            self._last[name] = (site.stage, detail)
            self.moments.append((at, name, site.stage, detail))


def _attempt(rollout: Mapping[str, Any]) -> int:
    number = re.search(r"-(\d+)$", rollout["metadata"]["name"])
    return int(number.group(1)) if number else 0
