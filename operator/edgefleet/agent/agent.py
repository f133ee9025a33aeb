"""The agent put together: what its parts know of each other, and its own status."""

import asyncio
import dataclasses
import importlib.metadata
import logging
from collections.abc import Coroutine
from datetime import UTC, datetime
from typing import Any, Final

from edgefleet.agent import doors, inventory, traffic
from edgefleet.agent.clock import Clock
from edgefleet.agent.fetch import Fetcher
from edgefleet.agent.identity import Identity
from edgefleet.agent.journal import Journal, JournalError
from edgefleet.agent.link import Link
from edgefleet.agent.metrics import Metrics, Sample
from edgefleet.agent.mirror import Mirrors
from edgefleet.agent.passes import Passes
from edgefleet.agent.pods import Pods
from edgefleet.agent.policy import SitePolicy
from edgefleet.agent.settings import HubSettings, Settings
from edgefleet.agent.traffic import Leases
from edgefleet.bundle import Store
from edgefleet.bundle.options import docker_credentials
from edgefleet.core import conditions, names
from edgefleet.core.conditions import State
from edgefleet.core.order import Condition, to_wire
from edgefleet.kube import errors
from edgefleet.kube.client import Api, Explicit
from edgefleet.kube.work import Queue

log = logging.getLogger(__name__)

VERSION: Final = importlib.metadata.version("edgefleet")
_MIRROR_EVERY: Final = 15.0
_RESTORE_AGAIN: Final = 5.0
_SKEW_NOISE: Final = 2.0
"""Seconds by which the skew must have changed to be worth a write: the hub tells its time in whole seconds."""


class Agent:
    """One site's agent. `run` ends only when it is cancelled."""

    def __init__(self, api: Api, settings: Settings) -> None:
        """Open journal and store. Raises JournalError, BundleError."""
        self._api = api
        self._settings = settings
        self.journal = Journal(settings.store)
        self._inventory = inventory.read()
        self._metrics = Metrics()
        self._leases = Leases()
        self._pods = Pods(settings.pod_port)
        self._kubernetes = ""
        self._skew_told = 0.0
        self._told: tuple[Condition, ...] = ()
        self._windows_told: dict[str, Any] = {}
        store = Store(settings.store)
        self.policy = SitePolicy(self.journal, Clock(), settings.jurisdiction)
        self._fetcher = Fetcher(store, settings.trust, settings.registry, self._inventory, self.ring)
        self._fetcher.throttle.limit = self.policy.bytes_per_second
        self.link = self._make_link(settings.hub) if settings.hub is not None else None
        mirrors = Mirrors(api, settings.place.namespace, self.journal)
        self._mirrors = mirrors
        self.passes = Passes(
            api,
            settings.place,
            self.journal,
            mirrors,
            self._fetcher,
            self._pods,
            self._leases,
            self.link,
            self.policy,
        )
        self._queue: Queue[str] = Queue(
            "models",
            self.passes.look,
            workers=4,
            first_backoff=0.5,
            longest_backoff=20.0,
            meter=self._metrics.passed,
        )
        self._metrics.watch(self._sample)

    def _make_link(self, hub: HubSettings) -> Link:
        where = Explicit(hub.server, hub.ca_file.read_bytes())
        identity = Identity(self._api, self._settings.namespace, hub.site, where, hub.token_file)
        self._identity = identity
        return Link(
            identity,
            self.journal,
            hub.site,
            ring=self.ring,
            policy=self.policy,
            back=self._back,
            changed=self._obey_policy,
            registry=self._use_credentials,
            describe=self.describe,
        )

    def _use_credentials(self, docker_config: bytes) -> None:
        """Read bundles with what the hub gave, and with what was given at install. Raises ValueError."""
        given = self._settings.registry
        found = docker_credentials(docker_config) if docker_config else {}
        self._fetcher.use(dataclasses.replace(given, credentials={**found, **given.credentials}))

    # -- bells ---------------------------------------------------------------------------------------------
    def ring(self, name: str) -> None:
        """Ask for a pass over one model."""
        if name:
            self._queue.add(name)

    def ring_all(self) -> None:
        """Ask for a pass over every model there is."""
        for name in self.journal.models:
            self._queue.add(name)

    def _back(self) -> None:
        """The hub is heard again."""
        self._fetcher.forget_failures()
        self.ring_all()

    def _obey_policy(self) -> None:
        """Another policy has come: downloads under way feel it at once, the passes look at the windows anew."""
        self._fetcher.throttle.limit = self.policy.bytes_per_second
        self.ring_all()

    # -- life ----------------------------------------------------------------------------------------------
    async def run(self) -> None:
        """Look after the site until cancelled."""
        server = None
        if self._settings.port:
            server = await traffic.serve(
                self._settings.port, self._leases, unhealthy=lambda: "", metrics=self._metrics.render
            )
        try:
            await self._restore()
            await self._work()
        finally:
            self._queue.stop()
            await self._fetcher.close()
            await self._pods.close()
            if server is not None:
                await server.cleanup()

    async def _restore(self) -> None:
        """Before anything is done: read a lost journal's orders back from their mirrors."""
        while self.journal.fresh:
            try:
                found = await self._mirrors.restore()
            except errors.ApiError as error:
                log.warning("Waiting for the site's API server", extra={"error": error.message})
                await asyncio.sleep(_RESTORE_AGAIN)
                continue
            if found:
                log.warning("Orders restored from their mirrors", extra={"orders": found})
            return

    async def _work(self) -> None:
        place = self._settings.place
        lasting: list[Coroutine[Any, Any, None]] = [
            self._queue.run(),
            doors.listen(self._api, place.namespace, self.ring),
            self._mirror_agent(),
        ]
        watchers = doors.watchers(self._api, place.namespace, self.ring, self.ring_all)
        lasting += [item.run() for item in watchers]
        if self.link is not None:
            lasting.append(self.link.run())
        self.ring_all()
        async with asyncio.TaskGroup() as group:
            for item in lasting:
                group.create_task(item)

    async def _mirror_agent(self) -> None:
        while True:
            try:
                await self._read_version()
                if self.link is None:
                    await self._look_after_policy()
                else:
                    await self._mirrors.agent(await self.describe())
                    self._tell_of_windows()
            except (errors.ApiError, JournalError) as error:
                log.info("Own status not written", extra={"error": str(error)})
            await asyncio.sleep(_MIRROR_EVERY)

    async def _look_after_policy(self) -> None:
        """Without a hub the EdgeAgent's spec is people's: it is read and obeyed, and never written."""
        if await self._mirrors.obey():
            self._obey_policy()
        await self._mirrors.tell(await self.describe())

    def _tell_of_windows(self) -> None:
        """Let the hub know when a window has opened or closed here."""
        found = self.policy.status()
        if self.link is not None and found != self._windows_told:
            self._windows_told = found
            self.link.news()

    async def _read_version(self) -> None:
        if not self._kubernetes:
            self._kubernetes = str((await self._api.request("GET", "/version")).get("gitVersion") or "")

    # -- the agent's own status ----------------------------------------------------------------------------
    async def describe(self) -> dict[str, Any]:
        """Say what this site and its agent are, as EdgeAgent.status."""
        link = self.link
        status: dict[str, Any] = {
            "observedGeneration": self.journal.policy.generation,
            "agentVersion": VERSION,
            "understands": [names.ORDER_VERSION],
            "inventory": inventory.status(self._inventory, self._settings.store),
            "orphans": self._orphans(),
            "storeBytes": self._fetcher.store.usage().blob_bytes,
            "windows": self.policy.status(),
            "conditions": self._conditions(),
        }
        if self.policy.jurisdiction:
            status["jurisdiction"] = self.policy.jurisdiction
        if self._kubernetes:
            status["kubernetesVersion"] = self._kubernetes
        skew = self.policy.clock.skew
        if skew is not None:
            if abs(skew - self._skew_told) >= _SKEW_NOISE:
                self._skew_told = float(round(skew))
            status["clockSkewSeconds"] = self._skew_told
        if link is not None and self._identity.credential.key_pem:
            status["publicKeySHA256"] = self._identity.credential.fingerprint
        return status

    def _orphans(self) -> list[str]:
        """Return models that run here though the hub has no order for them."""
        link = self.link
        if link is None or not link.synced.is_set():
            return []
        return sorted(
            name
            for name, record in self.journal.models.items()
            if not record.local and not record.finished and not link.knows(name)
        )[:100]

    def _conditions(self) -> list[dict[str, Any]]:
        ready, joined = self._states()
        built = conditions.build(
            {**ready, "Joined": joined}, self._told, self.journal.policy.generation, datetime.now(UTC)
        )
        self._told = built
        return [to_wire(item) for item in built]

    def _states(self) -> tuple[dict[str, State], State]:
        """Return how the agent is, and whether its hub knows it."""
        lost, link = self.journal.lost, self.link
        if lost:
            ready = conditions.stalled("JournalLost", f"{lost}; what serves was kept; look at the disk")
        else:
            ready = conditions.ready("Running", "")
        if link is None:
            return ready, (conditions.FALSE, "NoHub", "this site is run without a hub")
        reason, message = link.trouble
        if not reason:
            return ready, (conditions.TRUE, "Linked", "")
        if link.heard is not None and reason == "HubUnreachable":
            return ready, (conditions.TRUE, reason, message)
        return (ready if lost else conditions.reconciling(reason, message)), (
            conditions.FALSE,
            reason,
            message,
        )

    def _sample(self) -> Sample:
        return Sample(
            stages=self.passes.stages(),
            steps=self.passes.steps,
            store_bytes=self._fetcher.store.usage().blob_bytes,
            hub_silent=None if self.link is None else self.link.silent,
        )
