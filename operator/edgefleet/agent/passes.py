"""The local pass over one model: gather, let the core decide one step, take it, tell."""

import logging
import secrets
import time
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Final

from edgepod.contract import HealthDocument

from edgefleet.agent import gather
from edgefleet.agent.fetch import Fetcher
from edgefleet.agent.journal import Journal
from edgefleet.agent.link import Link
from edgefleet.agent.mirror import Mirrors
from edgefleet.agent.orders import cut_off, read_order
from edgefleet.agent.pods import Pods
from edgefleet.agent.policy import SitePolicy
from edgefleet.agent.traffic import Leases
from edgefleet.core import local_keep, local_observe, local_view, names
from edgefleet.core.local import (
    Action,
    Create,
    Delete,
    LocalDecision,
    LocalSeen,
    Patch,
    Place,
    PodSeen,
    Progress,
    Remember,
    StartFetch,
    StopFetch,
    Wait,
)
from edgefleet.core.local_record import Record
from edgefleet.core.order import Report, Stage
from edgefleet.core.site_pass import decide_local, refused_by_cluster
from edgefleet.kube import apply, errors, kinds
from edgefleet.kube.client import Api, Object

log = logging.getLogger(__name__)

_KINDS: Final = {"Service": kinds.SERVICE, "Deployment": kinds.DEPLOYMENT, "Job": kinds.JOB}
_TAKEN_FOR: Final = 20.0
"""Seconds a name that somebody else has is left alone."""
_KEPT_EVERY: Final = 3600.0
"""Seconds between looks at a model that runs on without an order; its Deployment's end is news anyway."""
_AT_REST: Final = frozenset({Stage.SERVING, Stage.ROLLED_BACK, Stage.REMOVED})


@dataclass(frozen=True, slots=True)
class _Refused:
    """A step that the site's API server refused."""

    action: Action
    message: str
    tries: int
    until: float
    """Monotonic seconds; before, it is not tried again."""


@dataclass(slots=True)
class _Model:
    """What is known of one model while the agent runs."""

    progress: Progress
    reported: Report | None = None
    taken: str = ""
    taken_at: float = 0.0
    refused: _Refused | None = None


@dataclass(slots=True)
class Passes:
    """Looks after all models of a site; `look` is what the queue calls."""

    api: Api
    place: Place
    journal: Journal
    mirrors: Mirrors
    fetcher: Fetcher
    pods: Pods
    leases: Leases
    link: Link | None
    policy: SitePolicy
    steps: dict[str, int] = field(default_factory=dict)
    """Steps taken, by kind, for metrics."""
    _models: dict[str, _Model] = field(default_factory=dict)
    _run: str = field(default_factory=lambda: secrets.token_hex(3))

    def stages(self) -> dict[str, tuple[str, str]]:
        """Return stage and active revision by model, as last reported."""
        told = ((name, model.reported) for name, model in self._models.items())
        return {name: (item.stage.value, item.active_revision) for name, item in told if item is not None}

    async def look(self, name: str) -> float | None:
        """Do one step for one model. Returns seconds until the next look. Raises ApiError, JournalError."""
        live = await self.mirrors.settle(name)
        record = self.journal.models.get(name)
        if record is None:
            return None
        if not record.spec or (record.finished and self._over(name, record)):
            return await self._forget(name, record)
        model = self._models.setdefault(name, _Model(Progress(run=self._run)))
        seen = await self._see(name, model, record)
        decision = decide_local(seen, time.monotonic(), datetime.now(UTC))
        self.leases.put(name, decision.leases)
        decision = await self._try_step(name, model, seen, decision)
        model.progress = decision.progress
        self._tell_log(name, model, decision.report)
        model.reported = decision.report
        if self.link is not None and not record.local:
            self.link.report(name, decision.report)
        await self._tell_mirror(live, decision.report)
        if decision.report.stage in _AT_REST:
            self._clean()
        return decision.requeue_after

    def _over(self, name: str, record: Record) -> bool:
        """Return whether a finished order has been seen by whoever gave it and is gone there."""
        if record.local or self.link is None:
            return False
        return self.link.synced.is_set() and not self.link.knows(name)

    async def _forget(self, name: str, record: Record) -> float | None:
        """Forget a model whose order is over, but for what runs on without one: its pods load from the store."""
        if record.spec:
            await self.mirrors.forget(name)
        running = await self._running(name) if record.served or record.staged else frozenset()
        rest = record.left_behind(running)
        if not await self.journal.leave(name, record, rest):
            return 0.0  # an order has come meanwhile
        if rest != record:
            self._models.pop(name, None)
            self.fetcher.drop(name)
            self._clean()
            log.info("Model forgotten", extra={"model": name, "running": sorted(running)})
        return _KEPT_EVERY if rest is not None and rest.served else None

    async def _running(self, name: str) -> frozenset[str]:
        """Return the revisions that have a Deployment here."""
        namespace, _, short = name.partition(".")
        found = await self.api.list(kinds.DEPLOYMENT, self.place.namespace)
        mine = (item for item in found if local_observe.ours(item, namespace, short))
        return frozenset(local_observe.deployment(item).revision for item in mine)

    # -- seeing -------------------------------------------------------------------------------------------
    async def _see(self, name: str, model: _Model, record: Record) -> LocalSeen:
        order, unreadable = read_order(name, record.spec)
        self.fetcher.settle(name, order, record)
        namespace, _, short = name.partition(".")
        found = await gather.cluster(self.api, self.place.namespace)
        silent = self.link.silent if self.link is not None and not record.local else None
        seen = gather.seen(
            found,
            namespace,
            short,
            record,
            order=order,
            unreadable=unreadable,
            taken=self._taken(model),
            fetch=self.fetcher.state(name, order, record) if order is not None else None,
            jurisdiction=self.policy.jurisdiction,
            hub_silent=silent,
            cordoned=self.policy.cordoned,
            windows=self.policy.windows(),
            bandwidth=self.policy.bandwidth,
            progress=model.progress,
            reported=model.reported,
            place=self.place,
        )
        if local_view.View(seen, time.monotonic(), datetime.now(UTC)).outside:
            self.fetcher.drop(name)
        documents = await self.pods.read(gather.worth_asking(seen))
        pods = tuple(_with_health(pod, documents.get(pod.uid)) for pod in seen.pods)
        await self._repair(record, pods)
        return replace(seen, pods=pods)

    async def _repair(self, record: Record, pods: Iterable[PodSeen]) -> None:
        """Drop what has rotted in the store, so that it is fetched again. Pods load none of it."""
        damaged = {
            pod.revision for pod in pods if pod.trouble and pod.trouble.reason in local_observe.DAMAGED
        }
        for revision in damaged:
            staged = record.staged_for(revision)
            if staged is not None:
                await self.fetcher.drop_damaged(staged)

    def _taken(self, model: _Model) -> str:
        if model.taken and time.monotonic() - model.taken_at > _TAKEN_FOR:
            model.taken = ""
        return model.taken

    # -- doing --------------------------------------------------------------------------------------------
    async def _try_step(
        self, name: str, model: _Model, seen: LocalSeen, decision: LocalDecision
    ) -> LocalDecision:
        """Take the step; one the site's API server refuses is told to the hub and tried again, ever more seldom."""
        before = model.refused if model.refused and model.refused.action == decision.action else None
        if before is None or time.monotonic() >= before.until:
            try:
                await self._take_step(name, model, seen, decision)
            except (errors.Forbidden, errors.Invalid) as error:
                tries = before.tries + 1 if before else 1
                until = time.monotonic() + local_keep.backoff(tries)
                before = _Refused(decision.action, error.message, tries, until)
                log.warning("Step refused", extra={"model": name, "error": error.message})
            else:
                before = None
        model.refused = before
        if before is None:
            return decision
        now = time.monotonic()
        wait = max(1.0, before.until - now)
        return refused_by_cluster(seen, now, datetime.now(UTC), before.message, wait)

    async def _take_step(self, name: str, model: _Model, seen: LocalSeen, decision: LocalDecision) -> None:
        action, namespace = decision.action, self.place.namespace
        if not isinstance(action, Wait):
            kind = type(action).__name__
            self.steps[kind] = self.steps.get(kind, 0) + 1
            log.info("Step", extra={"model": name, "step": kind, "why": decision.why})
        match action:
            case Wait():
                pass
            case StopFetch():
                self.fetcher.pause(name)
            case StartFetch():
                if seen.order is not None:
                    view = local_view.View(seen, time.monotonic(), datetime.now(UTC))
                    self.fetcher.start(name, seen.order, seen.record, view.active_facts())
            case Create(kind=kind, manifest=manifest):
                await self._create(model, name, kind, manifest)
            case Patch(kind=kind, name=target, body=body):
                await self.api.merge_patch(_KINDS[kind], namespace, target, body)
            case Delete(kind=kind, name=target, uid=uid):
                await apply.remove(self.api, _KINDS[kind], namespace, target, uid=uid)
            case Remember(record=wanted):
                await self._remember(name, seen.record, wanted)

    async def _create(self, model: _Model, name: str, kind: str, manifest: Object) -> None:
        live, made = await apply.create_or_get(self.api, _KINDS[kind], manifest)
        if made or (live["metadata"].get("labels") or {}).get(names.MODEL) == name:
            return
        model.taken, model.taken_at = f"{kind} {manifest['metadata']['name']}", time.monotonic()

    async def _remember(self, name: str, before: Record, wanted: Record) -> None:
        """Write what the pass learned, unless an order came in meanwhile: then the next pass decides anew."""

        def change(record: Record) -> Record:
            same = record.spec == before.spec and record.identity == before.identity
            return wanted if same else record

        await self.journal.update(name, change)

    # -- telling ------------------------------------------------------------------------------------------
    def _tell_log(self, name: str, model: _Model, report: Report) -> None:
        before = model.reported
        if before is None or (before.stage, before.reason) != (report.stage, report.reason):
            log.info(
                "Stage",
                extra={
                    "model": name,
                    "stage": report.stage.value,
                    "reason": report.reason,
                    "active": report.active_revision,
                    "detail": report.message,
                },
            )

    async def _tell_mirror(self, live: Object | None, report: Report) -> None:
        """Show the report here, too. A mirror that moved meanwhile is told by the next pass."""
        try:
            await self.mirrors.report(live, report)
        except errors.Conflict:
            log.debug("Mirror moved")
        except errors.Invalid as error:  # an older CRD; the report still goes to the hub
            log.warning("Report does not fit this site's CRD", extra={"error": error.message})

    def _clean(self) -> None:
        """Free the store of what no revision here needs any more, once no download may have been cut off unnoticed."""
        if any(
            cut_off(name, record) and not self.fetcher.knows(name)
            for name, record in self.journal.models.items()
        ):
            return
        keep = frozenset(
            digest
            for record in self.journal.models.values()
            for staged in (*record.staged, *(item.staged for item in record.served))
            for digest in staged.blobs
        )
        self.fetcher.keep_only(keep | self.fetcher.held())


def _with_health(pod: PodSeen, health: HealthDocument | None) -> PodSeen:
    trouble = pod.trouble or (None if pod.ready else local_observe.told(health))
    return replace(pod, health=health, trouble=trouble)
