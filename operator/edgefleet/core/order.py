"""The order that goes down to a site and the report that comes up: the wire between hub and agent.

An order is an EdgeDeployment's `spec`, a report its `status`. Both are parsed strictly: a site answers
`Rejected/AgentTooOld` to a field it does not know rather than obey a weaker order.
Durations are strings such as `90s`, `5m`, `1h30m`; shares are strings such as `1%` or `99.5%`; both are
turned into numbers by `edgefleet.core.units`.
"""

from enum import StrEnum

import msgspec


class State(StrEnum):
    """What is to become of a model on a site."""

    RUN = "Run"
    KEEP = "Keep"
    """Leave what serves alone, start nothing and finish nothing: the EdgeModel was deleted with
    `deletionPolicy: Keep`, or what was ordered is banned and there is nothing good to go back to."""
    REMOVE = "Remove"


class Mode(StrEnum):
    """How a site takes a revision up."""

    CANARY = "Canary"
    DIRECT = "Direct"
    """Verify, start, ready, golden self-test, swap; no shadow, no weights, no comparison with the model left."""


class OnNoTraffic(StrEnum):
    """What stands in for evidence when callers are silent."""

    GOLDEN = "Golden"
    HOLD = "Hold"


class Surge(StrEnum):
    """What to do where the new revision and the one that serves do not fit beside each other in memory."""

    REQUIRED = "Required"
    """Wait until they do; what serves stays."""
    PREFERRED = "Preferred"
    """Swap: what serves goes first, and callers have nobody until the new revision is ready."""


class Stage(StrEnum):
    """Where a site is with its order; for people, machines read conditions."""

    PENDING = "Pending"
    WAITING = "Waiting"
    DOWNLOADING = "Downloading"
    STAGED = "Staged"
    SELF_TESTING = "SelfTesting"
    CANARY = "Canary"
    HELD = "Held"
    BLOCKED = "Blocked"
    SERVING = "Serving"
    ROLLED_BACK = "RolledBack"
    REJECTED = "Rejected"
    REMOVING = "Removing"
    REMOVED = "Removed"


class Wire(
    msgspec.Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True, omit_defaults=True
):
    """Base of everything that crosses the link: camelCase on the wire, unknown fields refused."""


class ModelRef(Wire, frozen=True, kw_only=True):
    """The EdgeModel an order comes from."""

    namespace: str
    name: str


class Resources(Wire, frozen=True, kw_only=True):
    """Kubernetes quantities for the pod, e.g. `{"cpu": "500m", "memory": "256Mi"}`."""

    requests: dict[str, str] = {}
    limits: dict[str, str] = {}


class OutputCompression(Wire, frozen=True, kw_only=True):
    """Compression of inference outputs offered to callers who ask for it."""

    codec: str = "lz4"
    """`lz4` or `none`."""
    min_bytes: int = 1024
    """Outputs smaller than this are sent as they are."""


class Serving(Wire, frozen=True, kw_only=True):
    """How a revision is served on one site."""

    replicas: int = 1
    resources: Resources = Resources()
    output_compression: OutputCompression = OutputCompression()


class Step(Wire, frozen=True, kw_only=True):
    """One step of the canary inside a site: either a share of traffic mirrored or a share sent."""

    shadow: int = 0
    """Percent of requests copied to the canary, whose answers are only compared."""
    weight: int = 0
    """Percent of requests answered by the canary."""
    duration: str = "0s"


class Gates(Wire, frozen=True, kw_only=True):
    """What a canary has to show in every step."""

    max_error_rate: str = "1%"
    max_p99: str = ""
    """Duration; empty: not judged."""
    min_agreement: str = ""
    """Share of mirrored answers that must agree with the serving model's; empty: not judged."""
    min_golden: str = "95%"
    """Share of the golden set's outputs that must agree with the recorded ones on this hardware."""
    min_requests: int = 100
    """Evidence a step needs before it may pass."""


class Canary(Wire, frozen=True, kw_only=True):
    """How a new revision proves itself beside the running one."""

    steps: tuple[Step, ...] = ()
    gates: Gates = Gates()
    on_no_traffic: OnNoTraffic = OnNoTraffic.GOLDEN
    progress_deadline: str = "15m"
    """Longest time without progress inside one stage, by the site's monotonic clock."""
    surge: Surge = Surge.REQUIRED


class Order(Wire, frozen=True, kw_only=True):
    """What one site is to do about one model. The whole `spec` of an EdgeDeployment."""

    order_version: int
    state: State
    mode: Mode
    model: ModelRef
    revision: str
    """First 10 hex digits of the hash of bundle, variants, serving without replicas, and pod image."""
    attempt: int
    bundle: str
    """`oci://host[:port]/repository@sha256:<64 hex>`"""
    variants: tuple[str, ...]
    """In order of preference; the site takes the first whose requirements it meets. Empty: the bundle's order."""
    image: str
    """Pod image, frozen when the rollout was made."""
    serving: Serving
    canary: Canary
    rollout: str
    wave: str
    offered_at: str
    """RFC 3339, by the hub's clock."""
    valid_for: str = "24h"
    """An order not yet started lapses this long after the hub was last heard."""
    replaces: str = ""
    """Bundle digest (`sha256:…`) the site is to leave; without it a lower bundle version is refused."""
    jurisdictions: tuple[str, ...] = ()
    """A site that is in none of these refuses. Empty: anywhere."""
    go_back: bool = False
    """The way back from a revision that failed: it waits for no window. Said only to sites that have windows."""


class OrderIdentity(Wire, frozen=True, kw_only=True):
    """Which order a report answers: uid and generation of the hub's EdgeDeployment."""

    uid: str
    generation: int


class Download(Wire, frozen=True, kw_only=True):
    """Bytes of the revision being fetched."""

    done: int = 0
    total: int = 0
    saved: int = 0
    """Bytes that did not have to cross the link because the site had them."""


class SelfTest(Wire, frozen=True, kw_only=True):
    """Outcome of the golden set on the site's own hardware."""

    revision: str
    passed: bool
    agreement: float = 0.0
    """Share of golden outputs that agree with the recorded ones, 0 to 1."""
    accuracy: float | None = None
    """Against the labels, when the golden set has some, 0 to 1."""
    p50_ms: float = 0.0
    p99_ms: float = 0.0
    peak_mib: float = 0.0
    reason: str = ""


class Traffic(Wire, frozen=True, kw_only=True):
    """Counted by the pods of the active revision since they started."""

    requests: int = 0
    errors: int = 0
    p50_ms: float = 0.0
    p99_ms: float = 0.0
    bytes_in: int = 0
    bytes_out: int = 0
    bytes_out_raw: int = 0
    """What `bytesOut` would have been without compression of outputs."""


class CanaryProgress(Wire, frozen=True, kw_only=True):
    """Where the canary inside the site is."""

    step: int
    """Index into the order's steps."""
    steps: int
    shadow: int = 0
    weight: int = 0
    requests: int = 0
    errors: int = 0
    agreement: float | None = None
    message: str = ""


class SwapOutcome(StrEnum):
    """How a swap stands."""

    RUNNING = "Running"
    SWAPPED = "Swapped"
    WENT_BACK = "WentBack"


class Swap(Wire, frozen=True, kw_only=True):
    """A gap in serving that the order allowed (`surge: Preferred`)."""

    revision: str
    """The one that was to come."""
    attempt: int
    outcome: SwapOutcome = SwapOutcome.RUNNING
    given_up: str = ""
    """Why the new revision could not take the place, when its surroundings were to blame."""
    since: str
    """RFC 3339, by the site's clock: when what served was taken down."""
    gap_seconds: float | None = None
    """How long callers had nobody, to a second or two; None: they still have nobody."""


class Cause(StrEnum):
    """Who is to blame for a failure; only the model's own are counted and remembered."""

    MODEL = "Model"
    ENVIRONMENT = "Environment"


class Refusal(Wire, frozen=True, kw_only=True):
    """A revision that failed here and is not tried again at the same attempt."""

    revision: str
    attempt: int
    reason: str
    message: str
    time: str
    """RFC 3339, by the site's clock."""
    variant: str = ""
    """Of the revision that failed; empty: it failed before one was chosen."""


class Condition(Wire, frozen=True, kw_only=True):
    """A metav1.Condition."""

    type: str
    status: str
    reason: str
    message: str = ""
    last_transition_time: str
    observed_generation: int = 0


class Report(Wire, frozen=True, kw_only=True):
    """What one site says about one model. The whole `status` of an EdgeDeployment."""

    observed_generation: int = -1
    order: OrderIdentity | None = None
    conditions: tuple[Condition, ...] = ()
    stage: Stage = Stage.PENDING
    reason: str = ""
    """Reason of the stage, CamelCase."""
    message: str = ""
    active_revision: str = ""
    """The revision the Service selects: the only truth about what serves."""
    active_bundle: str = ""
    """Digest of the active revision's bundle."""
    active_version: int = 0
    previous_revision: str = ""
    variant: str = ""
    download: Download | None = None
    self_test: SelfTest | None = None
    canary: CanaryProgress | None = None
    traffic: Traffic | None = None
    swap: Swap | None = None
    """The last one."""
    refused: tuple[Refusal, ...] = ()
    reported_at: str = ""
    """RFC 3339, by the site's clock."""


def parse_order(spec: object) -> Order:
    """Read an EdgeDeployment's spec.

    Raises msgspec.ValidationError naming the field for anything unknown, missing or of the wrong type.
    """
    return msgspec.convert(spec, Order)


def to_wire(value: Wire) -> dict[str, object]:
    """Turn an order or a report into what the API server takes, and gives back: lists, never tuples."""
    found: dict[str, object] = msgspec.json.decode(msgspec.json.encode(value))
    return found
