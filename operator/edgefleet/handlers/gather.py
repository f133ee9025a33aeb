"""Everything the hub has seen, as records a decision can read."""

from collections.abc import Callable
from dataclasses import dataclass

from edgefleet import schedule
from edgefleet.core import names, parse
from edgefleet.core.seen import AgentObject, LeaseSeen, NamespaceSeen, OrderObject, SiteObject
from edgefleet.kube import kinds
from edgefleet.kube.cache import Cache, Key
from edgefleet.kube.client import Api, Object
from edgefleet.kube.kinds import Kind
from edgefleet.kube.records import Records, Told, only, site_of
from edgefleet.kube.watching import Watcher

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


class Seen(Records):
    """Caches of all that exists once a site or once a site and model. EdgeModels and EdgeRollouts are read fresh."""

    def __init__(self, api: Api, changed: Changed) -> None:
        super().__init__(
            Told(changed.site, changed.order, changed.agent, changed.lease),
            read_site=lambda raw: schedule.checked(parse.site(raw)),
            windows=schedule.of_agent,
        )
        self.namespaces = Cache(_namespace, changed=lambda key, _before, _after: changed.place(key))
        self.bindings = Cache(_binding, changed=lambda key, _before, _after: changed.place(key))
        ours = names.SITE
        self.beats = Watcher(api, kinds.LEASE, self.sinks[kinds.LEASE], labels=ours)
        self.watchers = (
            *(
                Watcher(api, kind, sink, labels="" if kind is kinds.EDGE_SITE else ours)
                for kind, sink in self.sinks.items()
                if kind is not kinds.LEASE
            ),
            self.beats,
            Watcher(api, kinds.NAMESPACE, self.namespaces.sink, labels=ours),
            Watcher(api, kinds.ROLE_BINDING, only(BINDING, self.bindings.sink), labels=ours),
        )


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
