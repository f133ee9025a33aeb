"""What the core reads and what it answers. Frozen all the way down; no behaviour but the obvious.

Specs and statuses (`…Spec`, `…Status`) have the fields of the CRDs, camelCase on the wire. `…Seen` is what was
observed, `…Decision` what is to be done about it. `edgefleet.core.parse` makes the former from raw objects.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

import msgspec

from edgefleet.core import order as wire


class Spec(msgspec.Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """Base of what people and the operator write: a field this version does not know is an error, never dropped."""


class Status(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Base of what the operator writes back. None means: the field is absent."""


# -- what people write --------------------------------------------------------------------------------


class Operator(StrEnum):
    """How a label selector's expression compares."""

    IN = "In"
    NOT_IN = "NotIn"
    EXISTS = "Exists"
    DOES_NOT_EXIST = "DoesNotExist"


class Expression(Spec, frozen=True, kw_only=True):
    """One requirement of a label selector."""

    key: str
    operator: Operator
    values: tuple[str, ...] = ()


class Selector(Spec, frozen=True, kw_only=True):
    """A metav1.LabelSelector over EdgeSite labels. Empty: every site."""

    match_labels: dict[str, str] = {}
    match_expressions: tuple[Expression, ...] = ()


class Placement(Spec, frozen=True, kw_only=True):
    """Which sites get the model."""

    site_selector: Selector


class Wave(Spec, frozen=True, kw_only=True):
    """One wave of sites. A wave with neither selector nor limit takes every site that is left."""

    name: str
    site_selector: Selector | None = None
    limit: int | str | None = None
    """Count, or share of the placed sites; becomes a fixed number when the wave starts."""
    max_concurrency: int = 100
    """No new offer while so many sites are at work."""
    soak: str = "0s"
    approval: bool = False
    """A person must approve before the wave starts."""
    max_failures: int | str | None = None
    """None: 0 up to 10 sites, 2 % above."""
    min_success: int | str = "50%"


class FailureStrategy(StrEnum):
    """What happens when more sites of a wave failed than allowed."""

    ROLLBACK_ALL = "RollbackAll"
    PAUSE = "Pause"


class RolloutPolicy(Spec, frozen=True, kw_only=True):
    """How a revision goes across sites."""

    waves: tuple[Wave, ...] = ()
    failure_strategy: FailureStrategy = FailureStrategy.ROLLBACK_ALL


class DeletionPolicy(StrEnum):
    """What becomes of a model on its sites when its EdgeModel is deleted."""

    REMOVE = "Remove"
    KEEP = "Keep"


DEFAULT_STEPS = (
    wire.Step(shadow=100, duration="1m"),
    wire.Step(weight=10, duration="1m"),
    wire.Step(weight=50, duration="1m"),
)
DEFAULT_CANARY = wire.Canary(steps=DEFAULT_STEPS)


class ModelSpec(Spec, frozen=True, kw_only=True):
    """`spec` of an EdgeModel."""

    bundle: str
    """`oci://host[:port]/repository@sha256:<64 hex>`"""
    placement: Placement
    variants: tuple[str, ...] = ()
    serving: wire.Serving = wire.Serving()
    canary: wire.Canary = DEFAULT_CANARY
    rollout: RolloutPolicy = RolloutPolicy()
    paused: bool = False
    deletion_policy: DeletionPolicy = DeletionPolicy.REMOVE
    revision_history_limit: int = 5


class Heartbeat(Spec, frozen=True, kw_only=True):
    """How often a site is heard, and when its silence is noticed."""

    interval: str = "120s"
    offline_after: str = "6m"


class SiteSpec(Spec, frozen=True, kw_only=True):
    """`spec` of an EdgeSite."""

    heartbeat: Heartbeat = Heartbeat()
    autonomy: str = "168h"
    """How long being away is normal: Away until then, Offline after."""
    cordoned: bool = False
    """No offers; going back and removal go on."""
    public_key_sha256: str = msgspec.field(default="", name="publicKeySHA256")


# -- what the operator writes -------------------------------------------------------------------------


class Desired(StrEnum):
    """The level a person sets on a rollout."""

    RUN = "Run"
    PAUSED = "Paused"
    ABORTED = "Aborted"


class Approval(Spec, frozen=True, kw_only=True):
    """A person's consent to start a wave, or to a removal (`removal-<generation of the EdgeModel>`)."""

    wave: str
    by: str = ""


class RolloutSpec(Spec, frozen=True, kw_only=True):
    """`spec` of an EdgeRollout: one attempt at one revision. Only the verbs (last four) ever change."""

    model: str
    """Name of the EdgeModel, in the rollout's namespace."""
    revision: str
    attempt: int
    """1 for the first attempt at this revision."""
    bundle: str
    bundle_version: int
    image: str
    number: int
    """The n of the rollout's name `<model>-<n>`."""
    variants: tuple[str, ...] = ()
    serving: wire.Serving = wire.Serving()
    """Without `replicas`, which is policy."""
    desired: Desired = Desired.RUN
    approvals: tuple[Approval, ...] = ()
    finish: bool = False
    """Admit all that is left: no soak, no approval, no limit."""
    direct: bool = False
    """Hot fix: no canary inside the sites."""


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


class RolloutCounts(Status, frozen=True, kw_only=True):
    """Sites of the rollout, all waves together."""

    desired: int = 0
    """Placed, joined, not cordoned, and able to understand orders."""
    admitted: int = 0
    in_flight: int = 0
    healthy: int = 0
    failed: int = 0
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
    counts: RolloutCounts = RolloutCounts()


class SiteCounts(Status, frozen=True, kw_only=True):
    """Sites of an EdgeModel by what is known of them now."""

    desired: int = 0
    """Placed, joined, not cordoned, and able to understand orders."""
    updated: int = 0
    """Reported, for the live order, that they serve the target revision."""
    healthy: int = 0
    """Serve what their live order says, are ready, and are heard."""
    unreachable: int = 0
    failed: int = 0
    """Refused the target revision."""
    blocked: int = 0


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


class AgentSpec(Spec, frozen=True, kw_only=True):
    """`spec` of an EdgeAgent: the policy that goes down to a site."""

    heartbeat_interval: str = "120s"
    cordoned: bool = False


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


# -- what was seen ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Meta:
    """What the core needs of an object's metadata."""

    name: str
    namespace: str = ""
    uid: str = ""
    generation: int = 0
    resource_version: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    finalizers: tuple[str, ...] = ()
    deleting: bool = False
    """The object has a deletion timestamp."""


@dataclass(frozen=True, slots=True)
class SpecError:
    """A spec that cannot be read; the message names the field and says what it must be."""

    message: str


@dataclass(frozen=True, slots=True)
class ModelObject:
    """An EdgeModel."""

    meta: Meta
    spec: ModelSpec | SpecError
    status: ModelStatus


@dataclass(frozen=True, slots=True)
class RolloutObject:
    """An EdgeRollout."""

    meta: Meta
    spec: RolloutSpec
    status: RolloutStatus


class IdentitySeen(wire.OrderIdentity, frozen=True, kw_only=True, forbid_unknown_fields=False):
    """Which order a report answers, as the hub reads it."""


class ConditionSeen(wire.Condition, frozen=True, kw_only=True, forbid_unknown_fields=False):
    """A condition, as the hub reads it."""


class RefusalSeen(wire.Refusal, frozen=True, kw_only=True, forbid_unknown_fields=False):
    """A refused revision, as the hub reads it."""


class ReportSeen(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A report as the hub reads it: fields of a newer agent are ignored at every depth, a stage it does not know is none."""

    order: IdentitySeen | None = None
    conditions: tuple[ConditionSeen, ...] = ()
    stage: str = ""
    reason: str = ""
    message: str = ""
    active_revision: str = ""
    active_bundle: str = ""
    previous_revision: str = ""
    refused: tuple[RefusalSeen, ...] = ()


@dataclass(frozen=True, slots=True)
class OrderObject:
    """An EdgeDeployment on the hub: one model's order to one site, and what the site reported."""

    meta: Meta
    site: str
    order: wire.Order | SpecError
    report: ReportSeen
    reported: datetime | None = None
    """When the agent last wrote the status, by the hub's clock (`managedFields[].time`)."""


@dataclass(frozen=True, slots=True)
class AgentObject:
    """The EdgeAgent of a site. `spec` is None when it cannot be read."""

    meta: Meta
    spec: AgentSpec | None
    status: AgentStatus


@dataclass(frozen=True, slots=True)
class LeaseSeen:
    """The heartbeat Lease of a site."""

    heard: datetime | None
    """Last beat by the hub's clock: `metadata.managedFields[manager=edgefleet-agent].time`."""
    renewed: datetime | None = None
    """`spec.renewTime`: the site's clock, only to show its skew."""
    fingerprint: str = ""
    """Annotation edgefleet.dev/fingerprint as it is now."""


@dataclass(frozen=True, slots=True)
class SiteObject:
    """An EdgeSite with what its namespace says about the agent. The model pass reads many of them."""

    meta: Meta
    spec: SiteSpec | SpecError
    status: SiteStatus
    lease: LeaseSeen | None = None
    agent: AgentObject | None = None


@dataclass(frozen=True, slots=True)
class BundleCheck:
    """Outcome of looking a bundle up in its registry with the hub's trusted keys."""

    bundle: str
    """The reference that was checked; an outcome for another one than the spec's is ignored."""
    ok: bool
    version: int = 0
    variants: tuple[str, ...] = ()
    """Names of the bundle's variants, to check `spec.variants` against."""
    reason: str = ""
    message: str = ""
    environment: bool = False
    """The registry could not be asked: tried again, nobody's fault."""


@dataclass(frozen=True, slots=True)
class ModelSeen:
    """All that a decision about one EdgeModel rests on."""

    namespace: str
    name: str
    model: ModelObject | None
    """None: it is gone, and only its orders are left."""
    rollouts: tuple[RolloutObject, ...]
    """All EdgeRollouts of the model, in any order."""
    orders: tuple[OrderObject, ...]
    """All orders of the model, over all site namespaces, in any order."""
    sites: tuple[SiteObject, ...]
    """All EdgeSites, in any order."""
    bundle: BundleCheck | None
    """None: not checked yet."""
    pod_image: str
    """For revisions made from now on, with its digest where it has one."""
    operator_started: datetime
    crd_deleting: bool = False
    """The CustomResourceDefinition of EdgeModel itself is being deleted."""


@dataclass(frozen=True, slots=True)
class NamespaceSeen:
    """The namespace `site-<name>`."""

    ours: bool
    """Carries the label edgefleet.dev/site with this site's name."""
    public_key_sha256: str = ""
    """Annotation edgefleet.dev/public-key-sha256."""
    deleting: bool = False


@dataclass(frozen=True, slots=True)
class SiteSeen:
    """All that a decision about one EdgeSite rests on."""

    name: str
    site: SiteObject | None
    """None: deleted; the namespace may still be there. With lease and agent filled in from the namespace."""
    namespace: NamespaceSeen | None
    binding_user: str
    """Subject of RoleBinding `edgefleet-site` in the namespace; empty: there is none."""
    orders: tuple[OrderObject, ...]
    """All EdgeDeployments in the namespace."""
    operator_started: datetime


@dataclass(frozen=True, slots=True)
class CsrSeen:
    """A CertificateSigningRequest and the site it names."""

    name: str
    username: str
    """`spec.username`: who asks, set by the API server."""
    signer: str
    usages: tuple[str, ...]
    common_name: str
    """Of the request's subject; empty when the request cannot be read."""
    organizations: tuple[str, ...]
    public_key_sha256: str
    """Hex SHA-256 of the request's SubjectPublicKeyInfo."""
    alternative_names: bool
    """The request asks for subject alternative names."""
    decided: bool
    """Already approved or denied."""
    site: SiteObject | None
    """The EdgeSite named by the common name; None: there is none."""
    namespace: NamespaceSeen | None
    problem: str = ""
    """Why the request cannot be read (not PEM, bad signature); empty: it can."""
    token_key: str = ""
    """Key that was joined by the very token that asks now (hex SHA-256); empty: the token has joined none."""


# -- what is to be done -------------------------------------------------------------------------------


class Finalizer(StrEnum):
    """What to do about the finalizer of an EdgeModel."""

    LEAVE = "leave"
    ADD = "add"
    DROP = "drop"


@dataclass(frozen=True, slots=True)
class RolloutCreate:
    """An EdgeRollout to create, owned by its EdgeModel. AlreadyExists means: look again."""

    name: str
    spec: RolloutSpec
    labels: Mapping[str, str]
    annotations: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class RolloutPatch:
    """What to change of an EdgeRollout. None: leave."""

    name: str
    status: RolloutStatus | None
    annotations: Mapping[str, str] | None = None
    """To be merged into metadata, before the status is written."""


@dataclass(frozen=True, slots=True)
class OrderWrite:
    """An order to create (`uid` empty) or to put in place of the one with this uid and resource version."""

    site: str
    name: str
    order: wire.Order
    labels: Mapping[str, str]
    reason: str
    """Why, CamelCase: Admitted, CatchUp, GoBack, Replicas, Removed, Kept, …; for events and logs."""
    uid: str = ""
    resource_version: str = ""


@dataclass(frozen=True, slots=True)
class ObjectDelete:
    """An object to delete, if it still has this uid."""

    name: str
    uid: str
    site: str = ""
    """Set for orders: the site whose namespace holds it."""


@dataclass(frozen=True, slots=True)
class ModelDecision:
    """What to do about one EdgeModel.

    To be carried out in the order of the fields, `finalizer` first when it is ADD and last when it is DROP. A pass that
    was killed anywhere in between is made good by the next.
    """

    status: ModelStatus | None
    """None: there is no EdgeModel to write it to."""
    finalizer: Finalizer = Finalizer.LEAVE
    create_rollouts: tuple[RolloutCreate, ...] = ()
    patch_rollouts: tuple[RolloutPatch, ...] = ()
    orders: tuple[OrderWrite, ...] = ()
    delete_orders: tuple[ObjectDelete, ...] = ()
    delete_rollouts: tuple[ObjectDelete, ...] = ()
    requeue_after: float | None = None
    """Seconds until the passing of time alone may change the decision. None: never."""


@dataclass(frozen=True, slots=True)
class SiteDecision:
    """What to do about one EdgeSite. To be carried out in the order of the fields, `status` last."""

    namespace: str | None
    """Public key to create the namespace with or to annotate it with; None: leave it alone."""
    binding_user: str | None
    """User the RoleBinding is to name; empty: delete the binding; None: leave it alone."""
    create_lease: bool
    agent: AgentSpec | None
    """Spec the EdgeAgent is to have; None: leave it alone."""
    fingerprint: str | None
    """Annotation to put on the Lease; None: leave it alone."""
    status: SiteStatus | None
    """None: there is no EdgeSite to write it to."""
    requeue_after: float | None = None


@dataclass(frozen=True, slots=True)
class CsrIgnore:
    """Not a request of ours, or one that is already decided."""


@dataclass(frozen=True, slots=True)
class CsrDeny:
    """Deny with a reason a person understands."""

    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class CsrApprove:
    """Bind the key, then approve.

    Order of writes: EdgeSite `status.publicKeySHA256`, namespace, RoleBinding, Lease, EdgeAgent (all of which `decide_site`
    would repair too), the approval, and at last the ServiceAccount of the token is deleted when `joining`.
    """

    site: str
    public_key_sha256: str
    user: str
    joining: bool
    """By token; otherwise the renewal of a bound key's certificate."""
    message: str


CsrDecision = CsrIgnore | CsrDeny | CsrApprove
