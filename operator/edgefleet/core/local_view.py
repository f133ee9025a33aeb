"""What follows from what a pass saw, and the outcome a rule of the local pass returns."""

from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Final

import msgspec
from edgepod.contract import TrafficLease

from edgefleet.core import units
from edgefleet.core.local import (
    NOTHING,
    Action,
    DeploymentSeen,
    JobSeen,
    LocalSeen,
    PodSeen,
    Progress,
    Remember,
    Wait,
)
from edgefleet.core.local_observe import NO_MEMORY
from edgefleet.core.local_record import REFUSALS_KEPT, SERVED_KEPT, Record, Served, Staged
from edgefleet.core.order import (
    CanaryProgress,
    Download,
    Order,
    Refusal,
    SelfTest,
    Stage,
    State,
    Surge,
    SwapOutcome,
)

STABLE_GRACE: Final = 60.0
"""Seconds a serving revision may be unready before it counts as broken and needs no comparison."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one rule decided. Only one rule of a pass decides."""

    stage: Stage
    reason: str
    message: str = ""
    action: Action = field(default_factory=Wait)
    why: str = ""
    requeue: float = 5.0
    token: str = ""
    """What progress is measured by; see Progress."""
    counting: bool = False
    """The time until the next pass counts towards progressDeadline."""
    progress: Progress | None = None
    """None: as it was."""
    lease: TrafficLease | None = None
    """For the serving revision's pods."""
    canary: CanaryProgress | None = None
    download: Download | None = None


@dataclass(frozen=True, slots=True)
class View:
    """Facts derived from LocalSeen. `now` is the monotonic clock in seconds, `moment` the site's wall clock."""

    seen: LocalSeen
    now: float
    moment: datetime

    @property
    def order(self) -> Order:
        """The order; only for rules that run after the one for unreadable orders."""
        if self.seen.order is None:
            raise ValueError("no order: the rule for unreadable orders must run first")
        return self.seen.order

    @property
    def progress(self) -> Progress:
        """What the agent knows while it runs."""
        return self.seen.progress

    @property
    def record(self) -> Record:
        """What the journal says."""
        return self.seen.record

    @property
    def active(self) -> str:
        """The revision the Service selects; empty when it selects none."""
        service = self.seen.service
        return service.revision if service is not None and service.revision != NOTHING else ""

    @property
    def target(self) -> str:
        """The revision to go to; empty when there is no readable order to run one, or it is refused, or may not be here."""
        order = self.seen.order
        if order is None or order.state is not State.RUN or self.refusal is not None or self.outside:
            return ""
        return order.revision

    @property
    def refusal(self) -> Refusal | None:
        """Why the order's revision is not tried here."""
        order = self.seen.order
        return None if order is None else self.record.refusal_of(order.revision, order.attempt)

    @property
    def outside(self) -> bool:
        """Whether the order asks for something new that may not be here: its jurisdictions do not name this site's.

        What serves goes on, and going back to what served well here and is whole in the store brings nothing here.
        """
        order = self.seen.order
        if order is None or order.state is not State.RUN or not order.jurisdictions:
            return False
        if self.seen.jurisdiction in order.jurisdictions or order.revision == self.active:
            return False
        return self.approved is None or self.staged is None

    @property
    def swapping(self) -> bool:
        """Whether what serves has been, or is just being, taken down to make room for the order's revision."""
        swap = self.record.swap
        if swap is None or swap.outcome is not SwapOutcome.RUNNING or swap.given_up:
            return False
        if not self.target or self.order.canary.surge is not Surge.PREFERRED:
            return False
        wanted = (self.target, self.order.attempt)
        return (swap.revision, swap.attempt) == wanted and self.active != self.target

    @property
    def approved(self) -> Served | None:
        """The order's revision, if it passed everything here at this attempt."""
        served = self.record.served_as(self.order.revision)
        return served if served is not None and served.order.attempt >= self.order.attempt else None

    @property
    def staged(self) -> Staged | None:
        """The order's revision in the store, verified."""
        return self.seen.fetch if isinstance(self.seen.fetch, Staged) else None

    @property
    def begun(self) -> bool:
        """Whether the order's revision has pods here, or has its self-test."""
        return self.deployment(self.order.revision) is not None or self.job() is not None

    @property
    def cramped(self) -> bool:
        """Whether the newcomer's pods, or its self-test, wait for memory."""
        job, target = self.job(), self.order.revision
        troubles = [pod.trouble for pod in self.pods(target)] + [job.trouble if job is not None else None]
        return any(trouble is not None and trouble.reason == NO_MEMORY for trouble in troubles)

    @property
    def going_back(self) -> bool:
        """Whether the order leads to what is known to be good: by the hub's word, or because it served well here."""
        return self.order.go_back or self.approved is not None

    def deployment(self, revision: str) -> DeploymentSeen | None:
        """Return the Deployment of a revision."""
        return next((item for item in self.seen.deployments if item.revision == revision), None)

    def pods(self, revision: str) -> tuple[PodSeen, ...]:
        """Return the pods of a revision that are not on their way out."""
        return tuple(pod for pod in self.seen.pods if pod.revision == revision and not pod.terminating)

    def ready(self, revision: str) -> tuple[PodSeen, ...]:
        """Return the ready pods of a revision."""
        return tuple(pod for pod in self.pods(revision) if pod.ready)

    def fully_ready(self, revision: str) -> bool:
        """Return whether as many pods are ready as the Deployment asks for."""
        deployment = self.deployment(revision)
        return deployment is not None and len(self.ready(revision)) >= max(1, deployment.replicas)

    def fallback(self) -> Served | None:
        """Return the newest revision that was served well here, has ready pods and is not what is selected now."""
        for item in reversed(self.record.served):
            bad = self.record.refusal_of(item.revision, item.order.attempt) is not None
            if item.revision != self.active and not bad and self.ready(item.revision):
                return item
        return None

    def job(self) -> JobSeen | None:
        """Return the self-test of this order."""
        order = self.order
        for item in self.seen.jobs:
            if item.revision == order.revision and item.attempt == order.attempt:
                return item
        return None

    def active_facts(self) -> tuple[str, int, str]:
        """Bundle digest, version and variant of what serves; from the journal, else from the Deployment itself."""
        served = self.record.served_as(self.active)
        if served is not None:
            return served.staged.bundle, served.staged.version, served.staged.variant
        deployment = self.deployment(self.active)
        if deployment is None:
            return "", 0, ""
        return deployment.bundle, deployment.version, deployment.variant

    @property
    def stable_broken(self) -> bool:
        """Whether nothing serves here that a new revision could be compared with."""
        since = self.unready_since
        return not self.active or (since is not None and self.now - since >= STABLE_GRACE)

    @property
    def unready_since(self) -> float | None:
        """Since when the selected revision has had no ready pod."""
        if not self.active or self.ready(self.active):
            return None
        return self.now if self.progress.unready_since is None else self.progress.unready_since

    def spent(self, token: str) -> float:
        """Seconds that passed without progress, as far as the site could work."""
        before = self.progress
        if before.token != token:
            return 0.0
        return before.spent + (self.now - before.at if before.counting and before.at is not None else 0.0)

    def overdue(self, token: str) -> bool:
        """Return whether a stage has made no progress for longer than the order allows."""
        return self.spent(token) > units.duration(self.order.canary.progress_deadline)

    # -- changes of the record ------------------------------------------------------------------------
    def refuse(self, reason: str, message: str) -> Outcome:
        """Remember that the order's revision failed here; the passes that follow go back."""
        order = self.order
        refusal = Refusal(
            revision=order.revision,
            attempt=order.attempt,
            reason=reason,
            message=message[:1000],
            time=units.timestamp(self.moment),
            variant=self.staged.variant if self.staged is not None else "",
        )
        kept = tuple(
            item
            for item in self.record.served
            if item.revision != order.revision or item.revision == self.active
        )
        staged = tuple(
            item
            for item in self.record.staged
            if item.revision != order.revision or item.revision == self.active
        )
        record = msgspec.structs.replace(
            self.record,
            refused=(*self.record.refused, refusal)[-REFUSALS_KEPT:],
            served=kept,
            staged=staged,
        )
        return Outcome(
            Stage.ROLLED_BACK,
            reason,
            message,
            Remember(record),
            f"{order.revision} failed: {reason}",
            requeue=0.0,
            progress=replace(self.progress, step=None, broken=None, kills=0),
        )

    def approve(self, staged: Staged, self_test: SelfTest | None) -> Record:
        """Return the record with the order's revision as the newest one that passed everything here."""
        served = Served(order=self.order, staged=staged, self_test=self_test)
        others = [item for item in self.record.served if item.revision != served.revision]
        active = [item for item in others if item.revision == self.active]
        older = [item for item in others if item.revision != self.active]
        kept = (*older, *active, served)[-SERVED_KEPT:]
        revisions = {item.revision for item in kept}
        return msgspec.structs.replace(
            self.record,
            name=staged.name,
            served=kept,
            staged=(
                *(item for item in self.record.staged if item.revision in revisions - {staged.revision}),
                staged,
            ),
        )
