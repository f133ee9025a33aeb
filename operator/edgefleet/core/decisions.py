"""What is to be done: the answers of the core, carried out by the handlers in the order of their fields."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from edgefleet.core import order as wire
from edgefleet.core.specs import AgentSpec, RolloutSpec
from edgefleet.core.statuses import ModelStatus, RolloutStatus, SiteStatus


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
