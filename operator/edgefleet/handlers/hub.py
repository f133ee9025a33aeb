"""Puts the hub together: what is watched, who is told, and in which order it starts and stops."""

import asyncio
import logging
from collections import Counter
from collections.abc import Coroutine
from datetime import UTC, datetime
from typing import Any, Final

from edgefleet import bundle
from edgefleet.core import joining, names, site_hub_pass
from edgefleet.core.seen import AgentObject, LeaseSeen, OrderObject, SiteObject
from edgefleet.handlers.bundles import Bundles
from edgefleet.handlers.gather import Changed, Seen, model_of
from edgefleet.handlers.joining import Joining
from edgefleet.handlers.metrics import Metrics
from edgefleet.handlers.models import Models
from edgefleet.handlers.quarantining import FLEET, Quarantining
from edgefleet.handlers.settings import Settings
from edgefleet.handlers.sites import Sites
from edgefleet.kube import errors, kinds
from edgefleet.kube.cache import Key
from edgefleet.kube.client import Api
from edgefleet.kube.records import site_of
from edgefleet.kube.watching import Watcher
from edgefleet.kube.work import Queue

log = logging.getLogger(__name__)

OURS: Final = (
    kinds.EDGE_MODEL,
    kinds.EDGE_SITE,
    kinds.EDGE_ROLLOUT,
    kinds.EDGE_AGENT,
    kinds.EDGE_DEPLOYMENT,
)
_MODEL_PACE: Final = 1.0
_MODEL_QUICK: Final = 0.2
_SITE_PACE: Final = 0.2
_FLEET_PACE: Final = 2.0
_LOOK_FOR_CRDS: Final = 2.0


class Hub:
    """One operator's caches, queues and loops, without kopf."""

    def __init__(self, api: Api, settings: Settings) -> None:
        self.metrics = Metrics()
        self.models_queue: Queue[Key] = Queue(
            "model", self._look_at_model, pace=_MODEL_PACE, quick=_MODEL_QUICK, meter=self.metrics.passed
        )
        self.sites_queue: Queue[str] = Queue(
            "site", self._look_at_site, workers=8, pace=_SITE_PACE, meter=self.metrics.passed
        )
        self.requests_queue: Queue[str] = Queue(
            "request", self._look_at_request, workers=1, meter=self.metrics.passed
        )
        self.fleet_queue: Queue[str] = Queue(
            "fleet", self._look_at_fleet, workers=1, pace=_FLEET_PACE, meter=self.metrics.passed
        )
        self.seen = Seen(api, Changed(self._site, self._order, self._agent, self._lease, self._place))
        self._api = api
        self._settings = settings
        self._began = datetime.now(UTC)
        self._bundles = Bundles(
            lambda ref: bundle.check(ref, settings.trust, settings.registry), self.models_queue.add
        )
        self._quarantine = Quarantining(
            api,
            self.seen,
            settings.quarantine,
            models=lambda: self._models.known if self._listed else None,
            ask=lambda: self.fleet_queue.add(FLEET),
            tell=self.sites_queue.add,
        )
        self._models = Models(
            api,
            self.seen,
            self._bundles,
            self.metrics,
            pod_image=settings.pod_image,
            listening=self.listening_since,
            learnt=self._quarantine.learn,
        )
        self._sites = Sites(
            api,
            self.seen,
            self.metrics,
            listening=self.listening_since,
            removed=self.sites_queue.forget,
            kept_out=self._quarantine.kept_out,
        )
        self._joining = Joining(api, self.seen, self._sites, self.metrics)
        self._watchers: tuple[Watcher, ...] = (
            *self.seen.watchers,
            self._joining.watcher(self.requests_queue),
        )
        self._queues: tuple[Queue[Any], ...] = (
            self.models_queue,
            self.sites_queue,
            self.requests_queue,
            self.fleet_queue,
        )
        self._tasks: list[asyncio.Task[Any]] = []
        self._started = False
        self._listed = False
        """All EdgeModels there are were listed once."""
        self._gauges()

    # -- life ---------------------------------------------------------------------------------------------
    async def start(self) -> None:
        """Wait for the CRDs, fill the caches, begin to work. Returns when ready."""
        await self._crds_served()
        for watcher in self._watchers:
            self._spawn(watcher.run(), "watch")
        for watcher in self._watchers:
            await watcher.synced.wait()
        for queue in self._queues:
            self._spawn(queue.run(), queue.name)
        self._spawn(self._resync(), "resync")
        self._started = True
        log.info(
            "Operator ready",
            extra={
                "sites": len(self.seen.sites),
                "orders": len(self.seen.orders),
                "server": self._api.server,
            },
        )

    async def stop(self) -> None:
        """Let running passes end, then end everything else."""
        for queue in self._queues:
            queue.stop()
        running = [t for t in self._tasks if t.get_name() in {queue.name for queue in self._queues}]
        if running:
            await asyncio.wait(running, timeout=15)
        await self._bundles.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def listening_since(self) -> datetime:
        """Since when beats are heard without a gap: silence from before is ours, not the sites'."""
        return self.seen.beats.hearing_since or datetime.now(UTC) if self._started else self._began

    def unhealthy(self) -> str:
        """What has died that should run; empty: nothing."""
        return ", ".join(f"{task.get_name()} has ended" for task in self._tasks if task.done())

    def unready(self) -> str:
        """What is not known yet; empty: all is."""
        if self._started:
            return ""
        waiting = [w.broken or "listing" for w in self._watchers if not w.synced.is_set()]
        return "; ".join(waiting) or "starting"

    def _spawn(self, work: Coroutine[Any, Any, None], name: str) -> None:
        self._tasks.append(asyncio.create_task(work, name=name))

    async def _crds_served(self) -> None:
        while True:
            try:
                for kind in OURS:
                    await self._api.request("GET", kind.path(), {"limit": "1"})
            except errors.ApiError as error:
                hint = "install chart edgefleet-crds" if isinstance(error, errors.NotFound) else ""
                log.warning("Waiting for the API server", extra={"error": error.message, "hint": hint})
                await asyncio.sleep(_LOOK_FOR_CRDS)
            else:
                return

    async def _resync(self) -> None:
        """Look at everything at the start and every few minutes: nothing depends on an event alone."""
        while True:
            try:
                async for items, _version in self._api.pages(kinds.EDGE_MODEL):
                    for item in items:
                        self._known_model(Key(item["metadata"]["namespace"], item["metadata"]["name"]))
                for order in self.seen.orders:  # also those whose EdgeModel is gone
                    self._ask_model(order)
                for site in self._site_names():
                    self.sites_queue.add(site)
                self._listed = True
                self.fleet_queue.add(FLEET)
            except errors.ApiError as error:
                log.warning("Resync failed", extra={"error": error.message})
                await asyncio.sleep(5)
                continue
            await asyncio.sleep(self._settings.resync)

    def _site_names(self) -> set[str]:
        named = {site.meta.name for site in self.seen.sites}
        return named | {site_of(key.name) for key in self.seen.namespaces.keys()}  # noqa: SIM118  records have keys of their own

    def _known_model(self, key: Key) -> None:
        self._models.known.add(key)
        self.models_queue.add(key)

    # -- passes -------------------------------------------------------------------------------------------
    async def _look_at_model(self, key: Key) -> float | None:
        again = await self._models.look(key)
        if again is None and key not in self._models.known and not self.seen.orders_of_model(*key):
            self.models_queue.forget(key)
        return again

    async def _look_at_site(self, name: str) -> float | None:
        return await self._sites.look(name)

    async def _look_at_fleet(self, key: str) -> float | None:
        return await self._quarantine.look(key)

    async def _look_at_request(self, name: str) -> float | None:
        return await self._joining.look(name)

    # -- who is told of what --------------------------------------------------------------------------------
    def _site(self, key: Key, before: SiteObject | None, after: SiteObject | None) -> None:
        self.sites_queue.add(key.name)
        if before is None or after is None or _for_models(before) != _for_models(after):
            for model in self._models.known:
                self.models_queue.add(model)
        if _for_fleet(before) != _for_fleet(after):
            self.fleet_queue.add(FLEET)

    def _order(self, key: Key, before: OrderObject | None, after: OrderObject | None) -> None:
        if before is not None and after is not None and _for_decisions(before) == _for_decisions(after):
            return  # the site has said the same again, or counted: a soak, which goes by such signs of life, looks by itself
        self.sites_queue.add(site_of(key.namespace))
        self._ask_model(after or before)

    def _ask_model(self, order: OrderObject | None) -> None:
        model = model_of(order.meta.name) if order else None
        if model:
            self.models_queue.add(model)

    def _agent(self, key: Key, before: AgentObject | None, after: AgentObject | None) -> None:
        self.sites_queue.add(site_of(key.namespace))
        if _agent_for_models(before) != _agent_for_models(after):
            for model in self._models.known:
                self.models_queue.add(model)

    def _lease(self, key: Key, before: LeaseSeen | None, after: LeaseSeen | None) -> None:
        site = site_of(key.namespace)
        if not site_hub_pass.one_more_beat(self.seen.sites.get("", site), before, after):
            self.sites_queue.add(site)

    def _place(self, key: Key) -> None:
        self.sites_queue.add(site_of(key.namespace or key.name))

    # -- figures --------------------------------------------------------------------------------------------
    def _gauges(self) -> None:
        queues = self._queues
        gauge = self.metrics.gauge
        gauge(
            "edgefleet_queue_depth",
            "Passes due or running.",
            "queue",
            lambda: {q.name: float(len(q)) for q in queues},
        )
        gauge(
            "edgefleet_failing_keys",
            "Keys whose last pass failed.",
            "queue",
            lambda: {q.name: float(len(q.failing())) for q in queues},
        )
        gauge("edgefleet_sites", "Sites by connectivity.", "connectivity", self._by_connectivity)
        gauge("edgefleet_quarantined_sites", "Sites set aside, by reason.", "reason", self._by_quarantine)
        gauge("edgefleet_orders", "Orders by stage of their report.", "stage", self._by_stage)

    def _by_connectivity(self) -> dict[str, float]:
        return {k: float(v) for k, v in Counter(s.status.connectivity.value for s in self.seen.sites).items()}

    def _by_quarantine(self) -> dict[str, float]:
        held = (s.status.quarantine for s in self.seen.sites)
        return {k: float(v) for k, v in Counter(q.reason for q in held if q is not None).items()}

    def _by_stage(self) -> dict[str, float]:
        return {k: float(v) for k, v in Counter(o.report.stage for o in self.seen.orders).items()}


def _for_decisions(order: OrderObject) -> object:
    """What of an order a decision may rest on, but for the time of its report."""
    meta = order.meta
    return (meta.uid, meta.generation, meta.labels, meta.deleting, order.order, order.report)


def _agent_for_models(agent: AgentObject | None) -> object:
    """What of an agent a decision about a model may rest on; not how full its disk is just now."""
    if agent is None:
        return None
    found = agent.status.inventory
    made_of = (found.arch, found.cpu_features, found.memory_bytes, found.disk_bytes) if found else None
    windows = agent.spec.windows if agent.spec is not None else None
    return (agent.status.understands, made_of, windows, agent.status.windows is None)


def _for_models(site: SiteObject) -> object:
    """What of a site a decision about a model may rest on; not when it was last seen."""
    status = site.status
    held = status.quarantine is not None
    return (
        site.meta.labels,
        site.meta.deleting,
        site.spec,
        status.connectivity,
        status.public_key_sha256,
        held,
    )


def _for_fleet(site: SiteObject | None) -> object:
    """What of a site decides who is set aside."""
    if site is None:
        return None
    asked = site.meta.annotations.get(names.RELEASE)
    status = site.status
    return (asked, bool(joining.bound_key(site)), site.meta.deleting, status.quarantine, status.flaps)
