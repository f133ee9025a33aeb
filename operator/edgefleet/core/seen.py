"""What was observed of the cluster, as decisions read it. Frozen all the way down; no behaviour but the obvious."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

import msgspec

from edgefleet.core import order as wire
from edgefleet.core.specs import AgentSpec, ModelSpec, RolloutSpec, SiteSpec
from edgefleet.core.statuses import AgentStatus, ModelStatus, RolloutStatus, SiteStatus, VariantNeeds
from edgefleet.core.window import NO_WINDOWS, Windows


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
    variant: str = ""
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
    readable: wire.Order | None = field(init=False, repr=False, compare=False)
    """The order; None: it cannot be read."""
    running: wire.Order | None = field(init=False, repr=False, compare=False)
    """The order, if it says to run something."""
    answered: bool = field(init=False, repr=False, compare=False)
    """The report answers the live order, not an earlier one or one of an earlier life."""

    def __post_init__(self) -> None:
        """Find out once what every pass asks of every order."""
        readable = self.order if isinstance(self.order, wire.Order) else None
        runs = readable is not None and readable.state is wire.State.RUN
        meta, said = self.meta, self.report.order
        answered = said is not None and said.uid == meta.uid and said.generation == meta.generation
        object.__setattr__(self, "readable", readable)
        object.__setattr__(self, "running", readable if runs else None)
        object.__setattr__(self, "answered", answered)


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
    windows: Windows = NO_WINDOWS
    """What the policy that was delivered says, by the hub's clock: `edgefleet.schedule` looks."""


@dataclass(frozen=True, slots=True)
class BundleCheck:
    """Outcome of looking a bundle up in its registry with the hub's trusted keys."""

    bundle: str
    """The reference that was checked; an outcome for another one than the spec's is ignored."""
    ok: bool
    version: int = 0
    variants: tuple[str, ...] = ()
    """Names of the bundle's variants, to check `spec.variants` against."""
    needs: tuple[VariantNeeds, ...] = ()
    """What each of them asks of a site."""
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
    kept_out: str | None = ""
    """Why the site is not in quarantine though it should be; None: not known yet."""


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
