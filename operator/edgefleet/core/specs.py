"""What people and the operator write: the specs of all kinds but the order, with the fields of the CRDs.

Frozen all the way down, camelCase on the wire. `edgefleet.core.parse` makes them from raw objects.
"""

from enum import StrEnum

import msgspec

from edgefleet.core import order as wire


class Spec(msgspec.Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """Base of what people and the operator write: a field this version does not know is an error, never dropped."""


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
    jurisdictions: tuple[str, ...] = ()
    """Only sites in one of these. Empty: anywhere."""


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


class OnCohortFailure(StrEnum):
    """What happens to a cohort in which a revision fails."""

    HOLD_COHORT = "HoldCohort"


class Cohorts(Spec, frozen=True, kw_only=True):
    """By what sites are alike, and when a revision is withheld from those that are."""

    by: tuple[str, ...]
    """Facts of the inventory (`arch`, `soc`, `firmware`, `variant`) or label keys of EdgeSites; each judged by itself."""
    min_sites: int = 3
    """No cohort is judged before so many of its sites succeeded or failed."""
    max_failures: int | str = "20%"
    """Count, or share of the sites that succeeded or failed."""
    on_failure: OnCohortFailure = OnCohortFailure.HOLD_COHORT


class Rate(Spec, frozen=True, kw_only=True):
    """New offers of the running rollout per minute, more of them as sites succeed."""

    per_minute: int
    factor: int = 2
    """By what the rate grows at each step."""
    every: int = 10
    """Healthy sites of the rollout per step."""
    max_per_minute: int = 1000


class RolloutPolicy(Spec, frozen=True, kw_only=True):
    """How a revision goes across sites."""

    waves: tuple[Wave, ...] = ()
    cohorts: Cohorts | None = None
    """None: sites are not judged in groups."""
    rate: Rate | None = None
    """None: only the waves' `maxConcurrency` holds offers back."""
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


class TimeWindow(Spec, frozen=True, kw_only=True):
    """A time that comes again and again. `edgefleet.schedule` reads it."""

    schedule: str
    """When it opens: cron of five fields, by the clocks of `timeZone`."""
    duration: str
    """Elapsed time it stays open."""
    time_zone: str = "UTC"


class SiteWindows(Spec, frozen=True, kw_only=True):
    """When a site may do what disturbs it. An empty list: at any time."""

    download: tuple[TimeWindow, ...] = ()
    """For bytes of models."""
    update: tuple[TimeWindow, ...] = ()
    """For self-tests and new pods; what has begun goes on, going back waits for none."""


class Bandwidth(Spec, frozen=True, kw_only=True):
    """What models may take of a site's link."""

    limit: str = ""
    """Bytes per second, a quantity; empty: no limit."""


class SiteSpec(Spec, frozen=True, kw_only=True):
    """`spec` of an EdgeSite."""

    heartbeat: Heartbeat = Heartbeat()
    windows: SiteWindows = SiteWindows()
    bandwidth: Bandwidth = Bandwidth()
    autonomy: str = "168h"
    """How long being away is normal: Away until then, Offline after."""
    cordoned: bool = False
    """No offers; going back and removal go on."""
    jurisdiction: str = ""
    """Whose law the site is under; empty: not said, and then no model that lists jurisdictions runs there."""
    public_key_sha256: str = msgspec.field(default="", name="publicKeySHA256")


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


class AgentSpec(Spec, frozen=True, kw_only=True):
    """`spec` of an EdgeAgent: the policy that goes down to a site."""

    heartbeat_interval: str = "120s"
    cordoned: bool = False
    jurisdiction: str | None = None
    """None: the site has none, unless its agent was installed with one."""
    windows: SiteWindows | None = None
    """None: everything at any time."""
    bandwidth_limit: str | None = None
    """Bytes per second, a quantity. None: no limit."""
