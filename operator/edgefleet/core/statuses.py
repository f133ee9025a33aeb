"""What the operator and the agents write back: the statuses of all kinds but the report. None: the field is absent."""

from enum import StrEnum

import msgspec

from edgefleet.core import order as wire


class Status(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Base of what the operator writes back. None means: the field is absent."""


class Outcome(StrEnum):
    """How a rollout ended."""

    NONE = ""
    COMPLETE = "Complete"
    ROLLED_BACK = "RolledBack"
    ABORTED = "Aborted"
    SUPERSEDED = "Superseded"


class WaveStatus(Status, frozen=True, kw_only=True):
    """What one wave has come to. Times are the hub's."""

    name: str
    limit: int
    """Sites the wave is made of. Fixed when it starts if the spec limits it, else only ever raised."""
    admitted: int = 0
    healthy: int = 0
    failed: int = 0
    """Never falls, whatever becomes of the sites."""
    held: int = 0
    """Of the failed: those in held cohorts, which are not held against the wave."""
    blocked: int = 0
    unreachable: int = 0
    started_at: str | None = None
    soak_started_at: str | None = None
    completed_at: str | None = None


class Failure(Status, frozen=True, kw_only=True):
    """One site that refused the rollout's revision."""

    site: str
    reason: str
    message: str
    time: str
    """When the hub learnt of it."""
    wave: str
    """Empty: the site was catching up."""
    cohorts: tuple[str, ...] = ()
    """`key=value` of the site's cohorts when it failed: it may be relabelled or deleted later."""


class CohortHold(Status, frozen=True, kw_only=True):
    """A cohort the rollout's revision is withheld from."""

    cohort: str
    """`key=value`"""
    failed: int
    seen: int
    """Sites of the cohort that succeeded or failed."""
    since: str
    message: str = ""


class RolloutCounts(Status, frozen=True, kw_only=True):
    """Sites of the rollout, all waves together."""

    desired: int = 0
    """Placed, joined, neither cordoned nor quarantined, and able to understand orders."""
    admitted: int = 0
    in_flight: int = 0
    healthy: int = 0
    failed: int = 0
    held: int = 0
    """Of the desired: those in held cohorts."""
    blocked: int = 0
    unreachable: int = 0


class RolloutStatus(Status, frozen=True, kw_only=True):
    """`status` of an EdgeRollout."""

    observed_generation: int = -1
    conditions: tuple[wire.Condition, ...] = ()
    outcome: Outcome = Outcome.NONE
    started_at: str | None = None
    completed_at: str | None = None
    """When the outcome was reached, whatever it is."""
    paused_at: str | None = None
    """Set while paused, so that a soak goes on where it stood."""
    waves: tuple[WaveStatus, ...] = ()
    failures: tuple[Failure, ...] = ()
    """At most 200; the counts go on."""
    holds: tuple[CohortHold, ...] = ()
    """At most 50; never fewer than before."""
    counts: RolloutCounts = RolloutCounts()


class VariantNeeds(Status, frozen=True, kw_only=True):
    """What one variant of a bundle asks of a site."""

    name: str
    cpu_features: tuple[str, ...] = ()
    memory_bytes: int = 0
    """Peak resident memory of one run at build time."""
    size_bytes: int = 0
    """Of the model file and the golden set: what a site pulls that has nothing of it."""


class BundleStatus(Status, frozen=True, kw_only=True):
    """What the operator found in the bundle the spec names."""

    reference: str
    version: int = 0
    variants: tuple[VariantNeeds, ...] = ()


class SiteCounts(Status, frozen=True, kw_only=True):
    """Sites of an EdgeModel by what is known of them now."""

    desired: int = 0
    """Placed, joined, neither cordoned nor quarantined, and able to understand orders."""
    updated: int = 0
    """Reported, for the live order, that they serve the target revision."""
    healthy: int = 0
    """Serve what their live order says, are ready, and are heard."""
    unreachable: int = 0
    failed: int = 0
    """Refused the target revision."""
    held: int = 0
    """In a cohort the target revision is withheld from."""
    blocked: int = 0
    unfit: int = 0
    """Selected, but without what the target revision needs; in none of the other numbers."""
    quarantined: int = 0
    """Placed and joined, but set aside: in none of the other counts."""


class ModelStatus(Status, frozen=True, kw_only=True):
    """`status` of an EdgeModel."""

    observed_generation: int = -1
    conditions: tuple[wire.Condition, ...] = ()
    current_revision: str = ""
    """The newest that completed and was not withdrawn."""
    current_bundle: str = ""
    """Its bundle, `oci://…@sha256:…`."""
    target_revision: str = ""
    """What the spec asks for."""
    rollout: str = ""
    """Name of the newest EdgeRollout."""
    bundle: BundleStatus | None = None
    """None: not looked up yet."""
    sites: SiteCounts = SiteCounts()


class Connectivity(StrEnum):
    """Whether a site is heard, by the hub's clock."""

    ONLINE = "Online"
    AWAY = "Away"
    OFFLINE = "Offline"
    UNKNOWN = "Unknown"


class Inventory(Status, frozen=True, kw_only=True):
    """What a site is made of, as its agent says."""

    arch: str = ""
    soc: str = ""
    """Chip or board."""
    firmware: str = ""
    """Version of what booted the kernel."""
    cpu_features: tuple[str, ...] = ()
    cpus: int = 0
    memory_bytes: int = 0
    disk_bytes: int = 0
    disk_free_bytes: int = 0


class SiteModels(Status, frozen=True, kw_only=True):
    """Models of a site by state."""

    serving: int = 0
    failed: int = 0
    blocked: int = 0


class Quarantine(Status, frozen=True, kw_only=True):
    """That a site is set aside: it is offered nothing. Times are the hub's."""

    since: str
    until: str
    """When it is released, if nobody does it before."""
    reason: str
    message: str


class Flap(Status, frozen=True, kw_only=True):
    """One change of something that ought to last."""

    time: str
    """When the hub learnt of it."""
    of: str
    """`Connectivity`, or `<namespace>.<model>/<revision>` of a promoted revision that crashed."""
    mark: str = ""
    """What it changed to; of a crash, when that was by the site's clock, to tell it from others."""


class SiteStatus(Status, frozen=True, kw_only=True):
    """`status` of an EdgeSite."""

    observed_generation: int = -1
    conditions: tuple[wire.Condition, ...] = ()
    connectivity: Connectivity = Connectivity.UNKNOWN
    last_seen: str | None = None
    """The hub's time of a beat, at most ten minutes older than the last one."""
    public_key_sha256: str | None = msgspec.field(default=None, name="publicKeySHA256")
    """The key bound to the site: hex SHA-256 of its SubjectPublicKeyInfo."""
    agent_version: str = ""
    kubernetes_version: str = ""
    inventory: Inventory | None = None
    models: SiteModels = SiteModels()
    quarantine: Quarantine | None = None
    """Absent: the site is not set aside."""
    released_at: str | None = None
    """When its latest quarantine ended: what speaks against it from before counts no more."""
    flaps: tuple[Flap, ...] | None = None


class AgentWindows(Status, frozen=True, kw_only=True):
    """What a site's agent makes of its windows."""

    download: bool = True
    """Open when this was written."""
    update: bool = True
    trouble: str = ""
    """Why none is open whatever the time; empty: they are judged."""


class AgentStatus(Status, frozen=True, kw_only=True):
    """`status` of an EdgeAgent, as far as the hub reads it."""

    observed_generation: int = -1
    conditions: tuple[wire.Condition, ...] = ()
    agent_version: str = ""
    kubernetes_version: str = ""
    public_key_sha256: str = msgspec.field(default="", name="publicKeySHA256")
    understands: tuple[int, ...] = ()
    """Order versions. Empty: the agent has not reported yet."""
    inventory: Inventory | None = None
    clock_skew_seconds: float | None = None
    jurisdiction: str = ""
    """Whose law the site says it is under: by its own word, else by the policy it was given; empty: nobody said."""
    windows: AgentWindows | None = None
    """None: an agent that knows of no windows."""
