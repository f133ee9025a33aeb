"""The nouns of the decision inside a site: what the agent remembers, what it sees, what it may do next.

`Record` and all inside it is what the journal holds for one model; it is written to disk as JSON, so a field may
be added with a default but never renamed.
"""

from dataclasses import dataclass, field
from typing import Any, Final

import msgspec
from edgepod.contract import HealthDocument, SelfTestReport, TrafficLease

from edgefleet.core.order import Cause, Download, Order, OrderIdentity, Refusal, Report, SelfTest

NOTHING: Final = "none"
"""Value of the Service's revision selector before anything serves; no pod ever carries it."""
REFUSALS_KEPT: Final = 20
SERVED_KEPT: Final = 3

Manifest = dict[str, Any]


# -- what the journal holds -------------------------------------------------------------------------
class Remembered(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """Base of what is kept on disk. Unknown fields are ignored, so that an older agent reads a newer journal."""


class Staged(Remembered, frozen=True, kw_only=True):
    """A revision whose bundle is verified and whose files are in the store."""

    revision: str
    bundle: str
    """Digest of the bundle's manifest."""
    name: str
    """Name inside the bundle; a model is pinned to the first one it served."""
    version: int
    variant: str
    serving: str
    """Digest of serving.json."""
    blobs: tuple[str, ...]
    """Digests of all files the revision needs from the store, serving.json, manifest and signature included."""
    download: Download = Download()


class Served(Remembered, frozen=True, kw_only=True):
    """A revision that passed everything here and was, or is just about to be, selected by the Service."""

    order: Order
    staged: Staged
    self_test: SelfTest | None = None

    @property
    def revision(self) -> str:
        """The revision."""
        return self.order.revision


class Record(Remembered, frozen=True, kw_only=True):
    """Everything remembered about one model."""

    spec: dict[str, Any] = msgspec.field(default_factory=dict)
    """The order as it was fetched, with fields this agent may not know."""
    identity: OrderIdentity | None = None
    local: bool = False
    """Applied by hand in this cluster, not by a hub."""
    name: str = ""
    """Pinned bundle name."""
    staged: tuple[Staged, ...] = ()
    """Newest last."""
    served: tuple[Served, ...] = ()
    """Newest last."""
    refused: tuple[Refusal, ...] = ()
    finished: str = ""
    """`Removed` or `Kept` once such an order is carried out."""

    def staged_for(self, revision: str) -> Staged | None:
        """Return what is in the store for a revision."""
        return next((item for item in reversed(self.staged) if item.revision == revision), None)

    def served_as(self, revision: str) -> Served | None:
        """Return how a revision was served."""
        return next((item for item in reversed(self.served) if item.revision == revision), None)

    def refusal_of(self, revision: str, attempt: int) -> Refusal | None:
        """Return why a revision is not tried again at this attempt."""
        for item in reversed(self.refused):
            if item.revision == revision and item.attempt >= attempt:
                return item
        return None


# -- what a pass sees -------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class Trouble:
    """What keeps a pod from its work, and who is to blame."""

    cause: Cause
    reason: str
    message: str = ""


@dataclass(frozen=True, slots=True)
class PodSeen:
    """One pod of a revision."""

    name: str
    uid: str
    revision: str
    ip: str = ""
    ready: bool = False
    terminating: bool = False
    restarts: int = 0
    trouble: Trouble | None = None
    killed: bool = False
    """Its container was last ended from outside (a signal, a power cut), which says nothing of the model."""
    health: HealthDocument | None = None

    @property
    def life(self) -> str:
        """Changes with every start of the pod's container."""
        return f"{self.uid}/{self.restarts}"


@dataclass(frozen=True, slots=True)
class DeploymentSeen:
    """A Deployment of this model; the facts of its revision are its annotations, so they outlive the journal."""

    name: str
    uid: str
    revision: str
    replicas: int
    bundle: str = ""
    version: int = 0
    variant: str = ""


@dataclass(frozen=True, slots=True)
class ServiceSeen:
    """A Service by its name, ours or not."""

    name: str
    uid: str
    revision: str
    """What its selector says."""
    address: str = ""
    """Cluster IP."""
    ours: bool = True


@dataclass(frozen=True, slots=True)
class JobSeen:
    """The self-test of a revision."""

    name: str
    uid: str
    revision: str
    attempt: int
    report: SelfTestReport | None = None
    """Set once it has ended by itself."""
    trouble: Trouble | None = None
    """Why it cannot run or ended without a report."""
    running: bool = False
    """Its container has started and not ended."""
    ended: bool = False


@dataclass(frozen=True, slots=True)
class Fetching:
    """A download under way."""

    download: Download


@dataclass(frozen=True, slots=True)
class FetchFailed:
    """A download that ended without its bundle."""

    trouble: Trouble
    at: float = 0.0
    """Monotonic seconds."""
    tries: int = 1
    rejected: bool = False
    """The order must not be obeyed, whatever the bundle is like."""


Fetch = Staged | Fetching | FetchFailed | None


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One line of the Service's EndpointSlices."""

    pod: str
    ready: bool


@dataclass(frozen=True, slots=True)
class Place:
    """Where workloads live and what they need to know of the agent; read once at start-up."""

    namespace: str = "edgefleet-models"
    store_url: str = "http://edgefleet-agent.edgefleet-agent.svc:8080"
    agent_url: str = "http://edgefleet-agent.edgefleet-agent.svc:8081"
    serving_priority: str = ""
    """PriorityClass of serving pods; empty: the cluster's default."""
    selftest_priority: str = ""


@dataclass(frozen=True, slots=True)
class StepState:
    """The canary step under way."""

    id: str
    """Names this step in traffic leases; new whenever evidence has to start again."""
    opened: float
    begun: float | None = None
    """When every serving pod had taken the step up; its duration counts from here. Monotonic seconds."""
    stable: frozenset[str] = frozenset()
    """Start ids of the serving pods' processes then."""
    lives: frozenset[str] = frozenset()
    """Lives of the canary's pods then."""


@dataclass(frozen=True, slots=True)
class Progress:
    """What the agent knows only while it runs: clocks and the canary. Lost in a crash, which starts a canary again."""

    subject: str = ""
    """Revision and attempt all this is about."""
    run: str = ""
    """Differs for each start of the agent, so that step ids do."""
    token: str = ""
    """Changes with every sign of progress and restarts the deadline's clock."""
    spent: float = 0.0
    """Seconds without progress while the site could work."""
    at: float | None = None
    counting: bool = False
    index: int = 0
    """Canary steps that have passed."""
    step: StepState | None = None
    steps_opened: int = 0
    kills: int = 0
    """How often canary pods were ended from outside."""
    retries: int = 0
    """Self-tests that ended because of the environment."""
    settled: str = ""
    settled_at: float = 0.0
    """What was waited for to spread through the cluster, and since when it is there."""
    unready_since: float | None = None
    """Since when the selected revision has no ready pod."""


@dataclass(frozen=True, slots=True)
class LocalSeen:
    """All that one pass looks at, for one model."""

    namespace: str
    model: str
    record: Record
    order: Order | None = None
    unreadable: str = ""
    """Why the order in the record could not be read."""
    service: ServiceSeen | None = None
    canary_service: ServiceSeen | None = None
    deployments: tuple[DeploymentSeen, ...] = ()
    pods: tuple[PodSeen, ...] = ()
    jobs: tuple[JobSeen, ...] = ()
    endpoints: tuple[Endpoint, ...] = ()
    canary_endpoints: tuple[Endpoint, ...] = ()
    taken: str = ""
    """`<Kind> <name>` of an object that is in the way and not ours."""
    fetch: Fetch = None
    hub_silent: float | None = None
    """Seconds since the hub was last heard; None: this site has no hub."""
    progress: Progress = field(default_factory=Progress)
    reported: Report | None = None
    """The previous report, for the times of its conditions."""
    place: Place = field(default_factory=Place)


# -- what a pass may do: exactly one of these ---------------------------------------------------------
@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing to do but look again."""


@dataclass(frozen=True, slots=True)
class StartFetch:
    """Get the order's bundle into the store."""


@dataclass(frozen=True, slots=True)
class Create:
    """Create an object."""

    kind: str
    manifest: Manifest


@dataclass(frozen=True, slots=True)
class Patch:
    """Merge-patch an object."""

    kind: str
    name: str
    body: Manifest


@dataclass(frozen=True, slots=True)
class Delete:
    """Delete an object and what it owns, if it still has this uid."""

    kind: str
    name: str
    uid: str


@dataclass(frozen=True, slots=True)
class Remember:
    """Write a record to the journal."""

    record: Record


Action = Wait | StartFetch | Create | Patch | Delete | Remember


@dataclass(frozen=True, slots=True)
class LocalDecision:
    """The one next step, what to tell, and when to look again (seconds)."""

    action: Action
    why: str
    """For the log."""
    report: Report
    requeue_after: float
    progress: Progress
    leases: tuple[tuple[str, TrafficLease], ...] = ()
    """Traffic lease per Deployment name; a Deployment that is not named has none."""
