"""The pass over one EdgeSite: its namespace with binding, lease and agent, and its status."""

import logging
from collections.abc import Callable
from datetime import UTC, datetime

from edgefleet.core import names, parse, site_hub_pass
from edgefleet.core.decisions import SiteDecision
from edgefleet.core.seen import NamespaceSeen, SiteObject, SiteSeen
from edgefleet.core.specs import AgentSpec
from edgefleet.core.statuses import SiteStatus
from edgefleet.handlers.gather import BINDING, Seen, body
from edgefleet.handlers.metrics import Metrics
from edgefleet.handlers.pen import Pen, to_raw
from edgefleet.kube import apply, errors, kinds
from edgefleet.kube.apply import Write
from edgefleet.kube.client import Api, Object

log = logging.getLogger(__name__)

_SOON = 0.5
MANAGED_LABELS = {names.MANAGED_BY: "edgefleet"}


class Sites:
    """Passes over EdgeSites."""

    def __init__(
        self,
        api: Api,
        seen: Seen,
        metrics: Metrics,
        *,
        listening: Callable[[], datetime],
        removed: Callable[[str], None],
        kept_out: Callable[[str], str | None],
    ) -> None:
        """`listening()` is since when beats are heard without a gap.

        `removed(site)` is called when nothing is left of a site to look at.

        `kept_out(site)` says why a site is not set aside though it should be.
        """
        self._api = api
        self._seen = seen
        self._metrics = metrics
        self._listening = listening
        self._removed = removed
        self._kept_out = kept_out
        self._pen = Pen(api)

    async def look(self, name: str) -> float | None:
        """Bring everything about one EdgeSite in line. Returns seconds until it wants to look again."""
        site = self._seen.site(name)
        namespace = await self.namespace(name)
        if site is None and namespace is None:
            self._removed(name)
            return None
        binding = self._seen.bindings.get(names.site_namespace(name), BINDING)
        seen = SiteSeen(
            name=name,
            site=site,
            namespace=namespace,
            binding_user=binding.user if binding else "",
            orders=self._seen.orders_of_site(name),
            operator_started=self._listening(),
            kept_out=self._kept_out(name),
        )
        return await self._carry_out(name, site, site_hub_pass.decide_site(seen, datetime.now(UTC)))

    async def namespace(self, site: str) -> NamespaceSeen | None:
        """The namespace of a site, whoever it belongs to. Only ours are in the cache; the rest is read."""
        name = names.site_namespace(site)
        found = self._seen.namespaces.get("", name)
        if found is not None:
            return found
        try:
            return parse.namespace(await self._api.get(kinds.NAMESPACE, None, name), site)
        except errors.NotFound:
            return None

    async def _carry_out(self, name: str, site: SiteObject | None, decision: SiteDecision) -> float | None:
        writes: list[Write] = []
        if decision.namespace is not None:
            key = decision.namespace
            writes.append(Write("namespace", lambda: self._namespace(name, key)))
        if decision.binding_user is not None:
            user = decision.binding_user
            writes.append(Write("binding", lambda: self._bind(name, user)))
        if decision.create_lease:
            writes.append(Write("lease", lambda: self._lease(name)))
        if decision.agent is not None:
            spec = decision.agent
            writes.append(Write("agent", lambda: self._agent(name, spec)))
        if decision.fingerprint is not None:
            mark = decision.fingerprint
            writes.append(Write("fingerprint", lambda: self._fingerprint(name, mark)))
        failed = await apply.carry_out(writes)
        again = [decision.requeue_after] if decision.requeue_after is not None else []
        if decision.status is not None and site is not None:
            wait = await self._status(site, decision.status)
            again += [wait] if wait is not None else []
        if failed:
            self._metrics.refused(error for _, error in failed)
            raise apply.WritesFailed(failed, len(writes))
        return min(again, default=None)

    async def _namespace(self, site: str, key: str) -> None:
        wanted = body(kinds.NAMESPACE, None, names.site_namespace(site))
        wanted["metadata"]["labels"] = {names.SITE: site, **MANAGED_LABELS}
        if key:
            wanted["metadata"]["annotations"] = {names.PUBLIC_KEY: key}
        live, made = await apply.create_or_get(self._api, kinds.NAMESPACE, wanted)
        if not made:
            if (live["metadata"].get("labels") or {}).get(names.SITE) != site:
                raise errors.Conflict(
                    f"namespace {names.site_namespace(site)} exists without label {names.SITE}={site}; "
                    "it belongs to somebody else: remove it or label it"
                )
            live = await apply.ensure(self._api, kinds.NAMESPACE, wanted, live)
        self._seen.namespaces.put(live)

    async def _bind(self, site: str, user: str) -> None:
        namespace = names.site_namespace(site)
        if not user:
            before = self._seen.bindings.get(namespace, BINDING)
            uid = before.uid if before else None
            await apply.remove(self._api, kinds.ROLE_BINDING, namespace, BINDING, uid=uid)
            self._seen.bindings.drop({"metadata": {"namespace": namespace, "name": BINDING}})
            return
        group = kinds.ROLE_BINDING.group
        wanted = body(
            kinds.ROLE_BINDING,
            namespace,
            BINDING,
            roleRef={"apiGroup": group, "kind": "ClusterRole", "name": BINDING},
            subjects=[{"apiGroup": group, "kind": "User", "name": user}],
        )
        wanted["metadata"]["labels"] = {names.SITE: site, **MANAGED_LABELS}
        self._seen.bindings.put(await apply.ensure(self._api, kinds.ROLE_BINDING, wanted))

    async def _lease(self, site: str) -> None:
        wanted = self._ours(kinds.LEASE, site, names.LEASE, spec={})
        self._seen.leases.put(await apply.ensure(self._api, kinds.LEASE, wanted))

    async def _agent(self, site: str, spec: AgentSpec) -> None:
        wanted = self._ours(kinds.EDGE_AGENT, site, names.AGENT, spec=to_raw(spec))
        self._seen.agents.put(await apply.ensure(self._api, kinds.EDGE_AGENT, wanted, prune=("spec",)))

    async def _fingerprint(self, site: str, mark: str) -> None:
        change = {"metadata": {"annotations": {names.FINGERPRINT: mark}}}
        namespace = names.site_namespace(site)
        try:
            self._seen.leases.put(await self._api.merge_patch(kinds.LEASE, namespace, names.LEASE, change))
        except errors.NotFound:
            self._seen.leases.drop({"metadata": {"namespace": namespace, "name": names.LEASE}})

    @staticmethod
    def _ours(kind: kinds.Kind, site: str, name: str, *, spec: Object) -> Object:
        made = body(kind, names.site_namespace(site), name, spec=spec)
        made["metadata"]["labels"] = {names.SITE: site, **MANAGED_LABELS}
        return made

    async def _status(self, site: SiteObject, want: SiteStatus) -> float | None:
        if want == site.status:
            return None
        live = {
            "metadata": {
                "name": site.meta.name,
                "uid": site.meta.uid,
                "resourceVersion": site.meta.resource_version,
            },
            # the record does not tell a figure that is 0 from one that was never written: the first time, all are
            "status": to_raw(site.status) if site.status.observed_generation >= 0 else {},
        }
        try:
            written, wait = await self._pen.write(kinds.EDGE_SITE, live, want)
        except errors.NotFound:  # deleted meanwhile; the watch tells
            return None
        except errors.Conflict:  # changed meanwhile; the watch is about to tell
            return _SOON
        if written is not None:
            if site.status.connectivity != want.connectivity:
                log.info(
                    "Site connectivity",
                    extra={"site": site.meta.name, "connectivity": want.connectivity.value},
                )
            self._seen.sites.put(written)
        return wait

    async def bind_key(self, site: SiteObject, public_key_sha256: str) -> None:
        """Remember in the EdgeSite's status which key is the site's. Raises ApiError."""
        change = {
            "metadata": {"resourceVersion": site.meta.resource_version},
            "status": {"publicKeySHA256": public_key_sha256},
        }
        written = await self._api.merge_patch(kinds.EDGE_SITE, None, site.meta.name, change, status=True)
        self._seen.sites.put(written)
