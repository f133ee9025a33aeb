"""Sites, orders, agents and beats as a decision reads them, and how they belong together.

The hub fills it by watching, `edgefleet explain` and `edgefleet plan` by one list or from a file: both decide on the same.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, TypeVar

from edgefleet.core import names, parse
from edgefleet.core.seen import (
    AgentObject,
    BundleCheck,
    LeaseSeen,
    ModelObject,
    ModelSeen,
    OrderObject,
    SiteObject,
)
from edgefleet.core.window import Windows
from edgefleet.kube import kinds
from edgefleet.kube.cache import Cache, Key
from edgefleet.kube.client import Object
from edgefleet.kube.kinds import Kind
from edgefleet.kube.watching import Sink

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Told:
    """Whom to tell of differences."""

    site: Callable[[Key, SiteObject | None, SiteObject | None], None] | None = None
    order: Callable[[Key, OrderObject | None, OrderObject | None], None] | None = None
    agent: Callable[[Key, AgentObject | None, AgentObject | None], None] | None = None
    lease: Callable[[Key, LeaseSeen | None, LeaseSeen | None], None] | None = None


class Records:
    """All that exists once a site, or once a site and model."""

    def __init__(
        self,
        told: Told | None = None,
        *,
        read_site: Callable[[Object], SiteObject],
        windows: Callable[[AgentObject | None, datetime], Windows],
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """`read_site` and `windows` are of `edgefleet.schedule`, which knows calendars; `now` is the hub's clock."""
        told = told or Told()
        self._windows = windows
        self._now = now
        self._whole: dict[str, SiteObject] = {}
        """Sites with lease and agent, by name, until one of the three changes: a pass reads them all."""
        self.sites = Cache(read_site, changed=self._then(told.site, lambda key: key.name))
        self.orders = Cache(
            parse.deployment,
            indexes={"model": lambda order: [order.meta.name], "site": lambda order: [order.site]},
            changed=told.order,
        )
        self.agents = Cache(parse.agent, changed=self._then(told.agent, lambda key: site_of(key.namespace)))
        self.leases = Cache(
            parse.heartbeat, changed=self._then(told.lease, lambda key: site_of(key.namespace))
        )

    def _then(
        self, tell: Callable[[Key, T | None, T | None], None] | None, site: Callable[[Key], str]
    ) -> Callable[[Key, T | None, T | None], None]:
        def forget_and_tell(key: Key, before: T | None, after: T | None) -> None:
            self._whole.pop(site(key), None)
            if tell is not None:
                tell(key, before, after)

        return forget_and_tell

    @property
    def sinks(self) -> Mapping[Kind, Sink]:
        """What takes the objects of each kind; of all but EdgeSites only those with the label `names.SITE` are meant."""
        return {
            kinds.EDGE_SITE: self.sites.sink,
            kinds.EDGE_DEPLOYMENT: self.orders.sink,
            kinds.EDGE_AGENT: only(names.AGENT, self.agents.sink),
            kinds.LEASE: only(names.LEASE, self.leases.sink),
        }

    def site(self, name: str) -> SiteObject | None:
        """An EdgeSite with the lease and agent of its namespace."""
        found = self.sites.get("", name)
        return self._with_its_own(found, self._now()) if found else None

    def all_sites(self) -> tuple[SiteObject, ...]:
        """All EdgeSites with their leases and agents."""
        now = self._now()
        return tuple(self._with_its_own(site, now) for site in self.sites)

    def _with_its_own(self, site: SiteObject, now: datetime) -> SiteObject:
        known = self._whole.get(site.meta.name)
        if known is None:
            namespace = names.site_namespace(site.meta.name)
            lease, agent = self.leases.get(namespace, names.LEASE), self.agents.get(namespace, names.AGENT)
            known = self._whole[site.meta.name] = replace(site, lease=lease, agent=agent)
        windows = self._windows(known.agent, now)
        if windows != known.windows:
            known = self._whole[site.meta.name] = replace(known, windows=windows)
        return known

    def orders_of_model(self, namespace: str, name: str) -> tuple[OrderObject, ...]:
        """All orders of a model."""
        return tuple(self.orders.by("model", names.order_name(namespace, name)))

    def orders_of_site(self, site: str) -> tuple[OrderObject, ...]:
        """All orders in a site's namespace."""
        return tuple(self.orders.by("site", site))

    def model_seen(
        self,
        key: Key,
        model: ModelObject | None,
        rollouts: Iterable[Object],
        bundle: BundleCheck | None,
        *,
        pod_image: str,
        started: datetime,
        crd_deleting: bool = False,
    ) -> ModelSeen:
        """All that a decision about one EdgeModel rests on. `rollouts` are those `rollouts_of` it."""
        return ModelSeen(
            namespace=key.namespace,
            name=key.name,
            model=model,
            rollouts=tuple(r for r in map(parse.rollout, rollouts) if r is not None),
            orders=self.orders_of_model(*key),
            sites=self.all_sites(),
            bundle=bundle,
            pod_image=pod_image,
            operator_started=started,
            crd_deleting=crd_deleting,
        )


def site_of(namespace: str) -> str:
    """The site whose namespace this is; empty: none."""
    prefix = names.SITE_NAMESPACE_PREFIX
    return namespace.removeprefix(prefix) if namespace.startswith(prefix) else ""


def rollouts_of(model: str, found: Iterable[Object]) -> dict[str, Object]:
    """Every attempt at a model, by name, of those in its namespace. Not by label: one that lost it would be made again and again."""
    return {raw["metadata"]["name"]: raw for raw in found if _spec(raw).get("model") == model}


def only(name: str, sink: Sink) -> Sink:
    """A sink for the object of one name, whatever its namespace."""

    def filtered(event: str, item: Object) -> None:
        if not item or item["metadata"]["name"] == name:
            sink(event, item)

    return filtered


def _spec(raw: Object) -> Mapping[str, Any]:
    return raw.get("spec") or {}
