"""The nouns of the decision inside a site: what a pass sees and what it may do next."""

from dataclasses import dataclass, field
from typing import Any, Final

from edgepod.contract import HealthDocument, SelfTestReport, TrafficLease

from edgefleet.core.local_record import Record, Staged
from edgefleet.core.order import Cause, Download, Order, Report
from edgefleet.core.window import NO_WINDOWS, Windows

NOTHING: Final = "none"
"""Value of the Service's revision selector before anything serves; no pod ever carries it."""

Manifest = dict[str, Any]


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
    started: bool = True
    """Its container runs or has run; until then nothing is known of the model."""
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
    failure: str = ""
    """Why the cluster makes no pods for it."""


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


@dataclass(frozen=True, slots=True)
class FetchPaused:
    """A download that was stopped; it goes on where it was."""

    download: Download


Fetch = Staged | Fetching | FetchPaused | FetchFailed | None


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
    """Processes of the canary's pods when it was opened."""
    lost: bool = False
    """A pass gave the serving pods no lease for it, so they forgot what they counted."""


@dataclass(frozen=True, slots=True)
class BrokenGate:
    """A gate the canary broke while it could not be asked whether it lived."""

    reason: str
    message: str


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
    broken: BrokenGate | None = None
    """Callers are kept from the canary already; whether the model is to blame is being found out."""
    kills: int = 0
    """How often canary pods were ended from outside."""
    down_since: float | None = None
    """When this agent took down what served to make room, monotonic seconds."""
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
    jurisdiction: str = ""
    """Whose law this site is under, by its own word or its hub's; empty: nobody said."""
    fetch: Fetch = None
    hub_silent: float | None = None
    """Seconds since the hub was last heard; None: this site has no hub."""
    cordoned: bool = False
    """The site's policy says that nothing new is to be begun here."""
    windows: Windows = NO_WINDOWS
    bandwidth: str = ""
    """Bytes per second downloads are limited to, as people write it; empty: they are not."""
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
class StopFetch:
    """End the download; what came of it stays."""


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


Action = Wait | StartFetch | StopFetch | Create | Patch | Delete | Remember


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
