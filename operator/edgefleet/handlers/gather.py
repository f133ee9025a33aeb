"""Everything the hub has seen, as records a decision can read."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TypeVar

from edgefleet import schedule
from edgefleet.core import names, parse
from edgefleet.core.seen import AgentObject, LeaseSeen, NamespaceSeen, OrderObject, SiteObject
from edgefleet.kube import kinds
from edgefleet.kube.cache import Cache, Key
from edgefleet.kube.client import Api, Object
from edgefleet.kube.kinds import Kind
from edgefleet.kube.watching import Watcher

T = TypeVar("T")

BINDING = "edgefleet-site"
"""Name of the RoleBinding in a site's namespace, and of the ClusterRole it refers to."""


@dataclass(frozen=True, slots=True)
class BindingSeen:
    """The RoleBinding of a site's namespace."""

    uid: str
    user: str
    """Its one subject; empty when it is not exactly one user."""


@dataclass(frozen=True, slots=True)
class Changed:
    """Whom to tell of differences."""

    site: Callable[[Key, SiteObject | None, SiteObject | None], None]
    order: Callable[[Key, OrderObject | None, OrderObject | None], None]
    agent: Callable[[Key, AgentObject | None, AgentObject | None], None]
    lease: Callable[[Key, LeaseSeen | None, LeaseSeen | None], None]
    place: Callable[[Key], None]
    """A site's namespace or its RoleBinding."""


class Seen:
    """Caches of all that exists once a site or once a site and model. EdgeModels and EdgeRollouts are read fresh."""

    def __init__(self, api: Api, changed: Changed) -> None:
        self._whole: dict[str, SiteObject] = {}
        """Sites with lease and agent, by name, until one of the three changes: a pass reads them all."""
        self.sites = Cache(
            lambda raw: schedule.checked(parse.site(raw)),
            changed=self._then(changed.site, lambda key: key.name),
        )
        self.orders = Cache(
            parse.deployment,
            indexes={"model": lambda order: [order.meta.name], "site": lambda order: [order.site]},
            changed=changed.order,
        )
        self.agents = Cache(
            parse.agent, changed=self._then(changed.agent, lambda key: site_of(key.namespace))
        )
        self.leases = Cache(
            parse.heartbeat, changed=self._then(changed.lease, lambda key: site_of(key.namespace))
        )
        self.namespaces = Cache(_namespace, changed=lambda key, _before, _after: changed.place(key))
        self.bindings = Cache(_binding, changed=lambda key, _before, _after: changed.place(key))
        ours = names.SITE
        self.watchers = (
            Watcher(api, kinds.EDGE_SITE, self.sites.sink),
            Watcher(api, kinds.EDGE_DEPLOYMENT, self.orders.sink, labels=ours),
            Watcher(api, kinds.EDGE_AGENT, self._only(names.AGENT, self.agents.sink), labels=ours),
            Watcher(api, kinds.LEASE, self._only(names.LEASE, self.leases.sink), labels=ours),
            Watcher(api, kinds.NAMESPACE, self.namespaces.sink, labels=ours),
            Watcher(api, kinds.ROLE_BINDING, self._only(BINDING, self.bindings.sink), labels=ours),
        )

    def _then(
        self, tell: Callable[[Key, T | None, T | None], None], site: Callable[[Key], str]
    ) -> Callable[[Key, T | None, T | None], None]:
        def forget_and_tell(key: Key, before: T | None, after: T | None) -> None:
            self._whole.pop(site(key), None)
            tell(key, before, after)

        return forget_and_tell

    @staticmethod
    def _only(name: str, sink: Callable[[str, Object], None]) -> Callable[[str, Object], None]:
        def filtered(event: str, item: Object) -> None:
            if not item or item["metadata"]["name"] == name:
                sink(event, item)

        return filtered

    def site(self, name: str) -> SiteObject | None:
        """An EdgeSite with the lease and agent of its namespace."""
        found = self.sites.get("", name)
        return self._with_its_own(found, datetime.now(UTC)) if found else None

    def all_sites(self) -> tuple[SiteObject, ...]:
        """All EdgeSites with their leases and agents."""
        now = datetime.now(UTC)
        return tuple(self._with_its_own(site, now) for site in self.sites)

    def _with_its_own(self, site: SiteObject, now: datetime) -> SiteObject:
        known = self._whole.get(site.meta.name)
        if known is None:
            namespace = names.site_namespace(site.meta.name)
            lease, agent = self.leases.get(namespace, names.LEASE), self.agents.get(namespace, names.AGENT)
            known = self._whole[site.meta.name] = replace(site, lease=lease, agent=agent)
        windows = schedule.of_agent(known.agent, now)
        return known if windows is known.windows else replace(known, windows=windows)

    def orders_of_model(self, namespace: str, name: str) -> tuple[OrderObject, ...]:
        """All orders of a model."""
        return tuple(self.orders.by("model", names.order_name(namespace, name)))

    def orders_of_site(self, site: str) -> tuple[OrderObject, ...]:
        """All orders in a site's namespace."""
        return tuple(self.orders.by("site", site))


def site_of(namespace: str) -> str:
    """The site whose namespace this is; empty: none."""
    prefix = names.SITE_NAMESPACE_PREFIX
    return namespace.removeprefix(prefix) if namespace.startswith(prefix) else ""


def model_of(order_name: str) -> Key | None:
    """The EdgeModel an order of this name belongs to. Namespaces hold no dot."""
    namespace, dot, name = order_name.partition(".")
    return Key(namespace, name) if dot and namespace and name else None


def body(kind: Kind, namespace: str | None, name: str, **rest: object) -> Object:
    """An object of ours to create."""
    meta: Object = {"name": name} | ({"namespace": namespace} if namespace else {})
    return {"apiVersion": kind.api_version, "kind": kind.name, "metadata": meta, **rest}


def _namespace(raw: Object) -> NamespaceSeen:
    return parse.namespace(raw, site_of(raw["metadata"]["name"]))


def _binding(raw: Object) -> BindingSeen:
    subjects = raw.get("subjects") or []
    users = [s["name"] for s in subjects if s.get("kind") == "User"]
    only = len(subjects) == 1 and len(users) == 1 and raw["roleRef"].get("name") == BINDING
    return BindingSeen(uid=raw["metadata"]["uid"], user=users[0] if only else "")
