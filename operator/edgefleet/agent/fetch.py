"""Downloads: at most one per model, in a task, into the store; what it ends with is what the next pass sees."""

import asyncio
import logging
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import partial

from edgepod.contract import Blob, Golden, ServingDocument, TensorSpec

from edgefleet.agent.inventory import Inventory
from edgefleet.bundle import (
    BundleError,
    BundleInfo,
    Progress,
    Pulled,
    RegistryOptions,
    Store,
    Tensor,
    Throttle,
    Trust,
    Variant,
    choose_variant,
    pull,
)
from edgefleet.core import local_install, units
from edgefleet.core.local import Fetch, FetchFailed, Fetching, FetchPaused, Trouble
from edgefleet.core.local_record import Output, Record, Staged
from edgefleet.core.order import Cause, Download, Order, OrderIdentity, State

log = logging.getLogger(__name__)

Active = tuple[str, int, str]
"""Bundle digest, version and variant of what serves."""


Subject = tuple[str, int, OrderIdentity | None]
"""What a download is for: revision, attempt and the order that asked. What it ended with is true of nothing else."""


class OrderRejected(Exception):  # noqa: N818  an answer to the order, nothing broke
    """The order must not be obeyed, whatever the bundle is like."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(slots=True)
class _Job:
    subject: Subject
    task: asyncio.Task[None] | None = None
    state: Fetch = None
    tries: int = 0
    wanted: frozenset[str] = frozenset()
    """Digests of the files it is about, once known: what came of them is not to be cleaned away before it ends."""

    @property
    def held(self) -> Collection[str]:
        """Digests of files it needs in the store."""
        return self.state.blobs if isinstance(self.state, Staged) else self.wanted

    @property
    def unsettled(self) -> bool:
        """Whether it may need files in the store that nobody can name yet."""
        state = self.state
        if not isinstance(state, FetchFailed) or state.rejected or self.wanted:
            return self.running
        return self.running or state.trouble.cause is Cause.ENVIRONMENT

    @property
    def running(self) -> bool:
        """Whether the download is under way."""
        return self.task is not None and not self.task.done()


class Fetcher:
    """Brings bundles into the store, one model at a time each."""

    def __init__(
        self,
        store: Store,
        trust: Trust,
        options: RegistryOptions,
        inventory: Inventory,
        ring: Callable[[str], None],
    ) -> None:
        """`ring(name)` asks for a pass when a download has ended."""
        self.store = store
        self._trust = trust
        self._options = options
        self._inventory = inventory
        self._ring = ring
        self.throttle = Throttle()
        """What all downloads together may take of the link; may be changed at any time."""
        self._jobs: dict[str, _Job] = {}
        self._kept: Collection[str] | None = None
        """What the store was last cleaned for; None when more may have come since."""

    def state(self, name: str, order: Order, record: Record) -> Fetch:
        """Return where the order's bundle is. What the journal says is staged counts while its files are here."""
        staged = record.staged_for(order.revision)
        if staged is not None and self.complete(staged):
            return staged
        job = self._jobs.get(name)
        if job is None or job.subject != _subject(order, record):
            return None
        lost = isinstance(job.state, Staged) and not self.complete(job.state)
        return None if lost else job.state

    def complete(self, staged: Staged) -> bool:
        """Return whether all files of a revision are in the store."""
        return all(self.store.has(digest) for digest in staged.blobs)

    async def drop_damaged(self, staged: Staged) -> None:
        """Remove those of a revision's files whose bytes are no longer theirs."""
        for digest in staged.blobs:
            if self.store.has(digest) and not await asyncio.to_thread(self.store.intact, digest):
                log.warning("Damaged in the store, fetched again", extra={"digest": digest})
                self.store.discard(digest)

    def use(self, options: RegistryOptions) -> None:
        """Reach registries like this from the next download on."""
        self._options = options

    def start(self, name: str, order: Order, record: Record, active: Active) -> None:
        """Start a download, ending another one for this model."""
        subject, before = _subject(order, record), self._jobs.get(name)
        if before is not None and before.subject == subject and before.running:
            return
        self.drop(name)
        job = _Job(subject, state=Fetching(Download()))
        if before is not None and before.subject == subject:
            job.tries = before.tries
        if before is not None and before.subject[0] == order.revision:
            job.wanted = before.wanted
        self._jobs[name] = job
        self._kept = None
        job.task = asyncio.create_task(self._run(name, job, order, record, active), name=f"fetch {name}")

    def pause(self, name: str) -> None:
        """End a download for now; what came of it stays, and `start` goes on from there."""
        job = self._jobs.get(name)
        if job is None or job.task is None or not isinstance(job.state, Fetching):
            return
        job.task.cancel()
        job.task, job.state = None, FetchPaused(job.state.download)

    def knows(self, name: str) -> bool:
        """Whether a download was begun for a model in this life of the agent."""
        return name in self._jobs

    def drop(self, name: str) -> None:
        """Forget a model's download, ending it if it is under way; what came of the files stays until a cleaning."""
        job = self._jobs.pop(name, None)
        if job is not None and job.task is not None:
            job.task.cancel()

    def settle(self, name: str, order: Order | None, record: Record) -> None:
        """End and forget a download that the order does not ask for any more."""
        job = self._jobs.get(name)
        if job is None:
            return
        wanted = (
            order is not None
            and order.state is State.RUN
            and record.refusal_of(order.revision, order.attempt) is None
            and job.subject[0] == order.revision  # the same for a newer order is replaced by its `start`
        )
        if not wanted:
            self.drop(name)

    def held(self) -> frozenset[str]:
        """Return digests of files that are not in the journal yet: a pass will write them there, or a try go on."""
        return frozenset(digest for job in self._jobs.values() for digest in job.held)

    def forget_failures(self) -> None:
        """Try at once again what failed: the way outside has just come back."""
        for name, job in self._jobs.items():
            if isinstance(job.state, FetchFailed) and job.state.trouble.cause is Cause.ENVIRONMENT:
                job.state, job.tries = None, 0
                self._ring(name)

    def keep_only(self, digests: Collection[str]) -> bool:
        """Free the store of everything else. Returns whether that is done: not while a download is under way."""
        if digests == self._kept:
            return True
        if any(job.unsettled for job in self._jobs.values()):
            return False
        try:
            freed = self.store.evict(digests)
        except BundleError as error:
            log.warning("Store not cleaned", extra={"error": str(error)})
            return False
        self._kept = digests
        if freed:
            log.info("Store cleaned", extra={"bytes": freed})
        return True

    async def close(self) -> None:
        """End all downloads; they go on from where they are."""
        tasks = [job.task for job in self._jobs.values() if job.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _run(self, name: str, job: _Job, order: Order, record: Record, active: Active) -> None:
        try:
            pulled = await pull(
                order.bundle,
                self._trust,
                self.store,
                choose=partial(self._choose, job, order, record, active),
                options=self._options,
                progress=partial(_note, job),
                throttle=self.throttle,
            )
            job.state = await asyncio.to_thread(self._stage, order, pulled)
        except OrderRejected as rejected:
            job.state = self._failed(job, Cause.ENVIRONMENT, rejected.reason, str(rejected), rejected=True)
        except BundleError as error:
            cause = Cause.ENVIRONMENT if error.environment else Cause.MODEL
            job.state = self._failed(job, cause, error.reason, str(error))
            log.warning("Download failed", extra={"order": name, "reason": error.reason, "error": str(error)})
        except Exception as error:  # whatever it was, the next try may do better, and the agent must go on
            job.state = self._failed(job, Cause.ENVIRONMENT, "DownloadFailed", repr(error))
            log.exception("Download failed", extra={"order": name})
        self._ring(name)

    def _failed(
        self, job: _Job, cause: Cause, reason: str, message: str, *, rejected: bool = False
    ) -> FetchFailed:
        job.tries += 1
        return FetchFailed(Trouble(cause, reason, message), time.monotonic(), job.tries, rejected)

    def _choose(self, job: _Job, order: Order, record: Record, active: Active, info: BundleInfo) -> Variant:
        found = local_install.rejection(order, record, active, info.name, info.version)
        if found is not None:
            raise OrderRejected(*found)
        limit = order.serving.resources.limits.get("memory")
        memory = int(units.quantity(limit)) if limit else self._inventory.memory_bytes
        chosen = choose_variant(info, order.variants, self._inventory.cpu_features, memory)
        job.wanted = frozenset((chosen.file.digest, info.golden.file.digest))
        return chosen

    def _stage(self, order: Order, pulled: Pulled) -> Staged:
        serving = self.store.put_bytes(serving_document(order, pulled.info, pulled.variant).to_json())
        return Staged(
            revision=order.revision,
            bundle=pulled.info.digest,
            name=pulled.info.name,
            version=pulled.info.version,
            variant=pulled.variant.name,
            serving=serving,
            blobs=(serving, *sorted(pulled.digests)),
            download=Download(done=pulled.total, total=pulled.total, saved=pulled.saved),
            outputs=tuple(
                Output(name=item.name, datatype=item.datatype, shape=tuple(item.shape))
                for item in pulled.info.outputs
            ),
        )


def _subject(order: Order, record: Record) -> Subject:
    return order.revision, order.attempt, record.identity


def serving_document(order: Order, info: BundleInfo, variant: Variant) -> ServingDocument:
    """Say what the pods of a revision serve."""
    golden, compression = info.golden, order.serving.output_compression
    return ServingDocument(
        name=order.model.name,
        revision=order.revision,
        version=str(info.version),
        model=Blob(variant.file.digest, variant.file.size),
        inputs=tuple(_tensor(item) for item in info.inputs),
        outputs=tuple(_tensor(item) for item in info.outputs),
        golden=Golden(
            file=Blob(golden.file.digest, golden.file.size),
            samples=golden.samples,
            metric=golden.metric,
            rtol=golden.rtol,
            atol=golden.atol,
        ),
        codec=compression.codec,
        min_bytes=compression.min_bytes,
    )


def _tensor(item: Tensor) -> TensorSpec:
    return TensorSpec(item.name, item.datatype, tuple(item.shape))


def _note(job: _Job, progress: Progress) -> None:
    job.state = Fetching(Download(done=progress.done, total=progress.total, saved=progress.saved))
