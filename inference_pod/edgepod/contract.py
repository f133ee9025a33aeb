"""What the pod and its site agree on: three JSON documents. Standard library only.

- `ServingDocument` (`serving.json`): what to serve. Written by the site's agent into its store, named by its
  own digest on the pod's command line.
- `TrafficLease`: how much traffic the serving pod shares with a canary. Polled by the pod from the agent;
  not renewed for `ttlSeconds`, it means: none.
- `HealthDocument`: counters of one pod. Read by the agent from `GET /edgefleet/v1/health`.

Unknown fields are ignored, so that an older pod understands a newer agent; a lease with a `protocol` the pod
does not know means: no canary.
"""

import bisect
import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import UnionType
from typing import Any, Final, Self, TypeVar, cast, get_args, get_origin, get_type_hints

_T = TypeVar("_T")

PROTOCOL: Final = 1
HEALTH_PATH: Final = "/edgefleet/v1/health"
TRAFFIC_PATH: Final = "/edgefleet/v1/traffic/{workload}"
"""On the agent's port; `workload` is the name of the pod's Deployment."""

METRICS: Final = ("top1", "equal", "close")
"""How two outputs are compared; see Golden."""

LATENCY_BOUNDS_MS: Final[tuple[float, ...]] = tuple(round(0.05 * 1.25**i, 4) for i in range(58))
"""Upper bounds of the latency histogram's buckets, milliseconds, 50 µs to about 17 s, each 1.25 times the last.

A quantile read from it is at most 25 % too high.
"""


class ContractError(ValueError):
    """A document does not say what it must; the message names the field."""


@dataclass(frozen=True, slots=True)
class Blob:
    """A file of the site's store: digest `sha256:<hex>` and size in bytes."""

    digest: str
    size: int


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """Name, Open Inference Protocol datatype (`FP32`, `UINT8`, …) and shape (-1: any) of an input or output."""

    name: str
    datatype: str
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Golden:
    """The golden set: `golden.npz` with arrays `input/<name>`, `expected/<name>` and optionally `label/<name>`.

    The first axis of every array is the sample. `expected` is what the float model answered at build time.
    """

    file: Blob
    samples: int
    metric: str
    """`top1`: argmax of the last axis; `equal`: same value; `close`: |a - b| <= atol + rtol * |b|."""
    rtol: float = 0.0
    atol: float = 0.0


@dataclass(frozen=True, slots=True)
class ServingDocument:
    """What one pod serves."""

    name: str
    """Model name in the Open Inference Protocol."""
    revision: str
    version: str
    model: Blob
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    golden: Golden | None = None
    codec: str = "lz4"
    min_bytes: int = 1024

    def to_json(self) -> bytes:
        """Canonical JSON: sorted keys, no spaces. Equal documents have equal digests."""
        return _canonical(self)

    @classmethod
    def from_json(cls, data: bytes | str) -> Self:
        """Read the document. Raises ContractError naming the field."""
        return _read(cls, data, "serving document")


@dataclass(frozen=True, slots=True)
class TrafficLease:
    """How much of its traffic a serving pod shares with the canary, and for how long."""

    step: str
    """Identity of the canary step. A new one starts the pod's canary counters at zero."""
    canary: str
    """Base URL of the canary, `http://host:port`; empty: no canary."""
    shadow: int = 0
    """Percent of requests copied."""
    weight: int = 0
    """Percent of requests sent to the canary, whose answer the caller gets."""
    timeout_ms: int = 1000
    """A canary later than this is late; the serving pod answers itself."""
    max_consecutive_failures: int = 5
    """So many bad or late canary answers in a row, and the pod drops to weight 0 by itself."""
    ttl_seconds: float = 10.0
    protocol: int = PROTOCOL

    def to_json(self) -> bytes:
        """Canonical JSON."""
        return _canonical(self)

    @classmethod
    def from_json(cls, data: bytes | str) -> Self:
        """Read the document. Raises ContractError naming the field."""
        return _read(cls, data, "traffic lease")


NO_CANARY: Final = TrafficLease(step="", canary="")


@dataclass(frozen=True, slots=True)
class Counters:
    """Requests seen from one side, since the pod's start or since the canary step's."""

    requests: int = 0
    errors: int = 0
    """Answers with a status of 500 and above, and answers that never came. A caller's mistake is none."""
    late: int = 0
    latency: tuple[int, ...] = ()
    """Requests per bucket of LATENCY_BOUNDS_MS, and a last one for all above."""


@dataclass(frozen=True, slots=True)
class CanaryCounters:
    """What a serving pod saw of the canary during one step."""

    step: str
    sent: Counters = field(default_factory=Counters)
    """Requests whose answer the caller was to get from the canary."""
    shadowed: Counters = field(default_factory=Counters)
    agreed: int = 0
    disagreed: int = 0
    skipped: int = 0
    """Shadow copies dropped because too many were under way."""
    dropped: bool = False
    """The pod took the weight to 0 by itself."""
    weight: int = 0
    """Percent sent just now; 0 too when it was dropped or the lease has run out."""
    shadow: int = 0
    """Percent copied just now."""


@dataclass(frozen=True, slots=True)
class HealthDocument:
    """Counters of one pod."""

    start_id: str
    """Random, new at each start of the process."""
    revision: str
    ready: bool
    served: Counters
    """All infer requests answered to callers, whoever computed the answer."""
    bytes_in: int = 0
    bytes_out: int = 0
    bytes_out_raw: int = 0
    """What `bytes_out` would have been without compression."""
    rss_bytes: int = 0
    canary: CanaryCounters | None = None
    reason: str = ""
    """Why the pod is not ready."""

    def to_json(self) -> bytes:
        """Canonical JSON."""
        return _canonical(self)

    @classmethod
    def from_json(cls, data: bytes | str) -> Self:
        """Read the document. Raises ContractError naming the field."""
        return _read(cls, data, "health document")


@dataclass(frozen=True, slots=True)
class SelfTestReport:
    """Printed by `edgepod selftest` as its last line of standard output, and as the container's termination message."""

    passed: bool
    reason: str = ""
    """CamelCase when failed: NotOnnx, DigestMismatch, SignatureMismatch, LoadFailed, GoldenDisagrees, OutOfMemory, Timeout …"""
    message: str = ""
    samples: int = 0
    agreement: float = 0.0
    accuracy: float | None = None
    p50_ms: float = 0.0
    p99_ms: float = 0.0
    load_ms: float = 0.0
    peak_mib: float = 0.0

    def to_json(self) -> bytes:
        """Canonical JSON."""
        return _canonical(self)

    @classmethod
    def from_json(cls, data: bytes | str) -> Self:
        """Read the document. Raises ContractError naming the field."""
        return _read(cls, data, "self-test report")


def bucket(latency_ms: float) -> int:
    """Index of the histogram bucket a latency falls into."""
    return bisect.bisect_left(LATENCY_BOUNDS_MS, latency_ms)


def quantile_ms(histogram: Sequence[int], q: float) -> float:
    """Upper bound of the bucket that holds the q-quantile (0 to 1); 0.0 for an empty histogram."""
    total = sum(histogram)
    if total == 0:
        return 0.0
    rank, seen = q * total, 0
    for index, count in enumerate(histogram):
        seen += count
        if seen >= rank and count:
            return LATENCY_BOUNDS_MS[min(index, len(LATENCY_BOUNDS_MS) - 1)]
    return LATENCY_BOUNDS_MS[-1]


# -- JSON ---------------------------------------------------------------------------------------------


def _canonical(document: Any) -> bytes:
    raw = _camel_keys(dataclasses.asdict(document))
    return json.dumps(raw, sort_keys=True, separators=(",", ":")).encode()


def _camel_keys(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {_camel(key): _camel_keys(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_camel_keys(item) for item in value]
    return value


def _camel(name: str) -> str:
    head, *rest = name.split("_")
    return head + "".join(part.title() for part in rest)


def _read(cls: type[_T], data: bytes | str, what: str) -> _T:
    try:
        raw = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ContractError(f"{what}: not JSON: {error}") from error
    return cast(_T, _build(cls, raw, what))


def _build(hint: Any, raw: Any, path: str) -> Any:
    """Turn plain JSON into what the type hint says, or name the place that does not fit."""
    if dataclasses.is_dataclass(hint):
        return _build_dataclass(cast(type[Any], hint), raw, path)
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is tuple:
        if not isinstance(raw, list):
            raise ContractError(f"{path} must be a list")
        return tuple(_build(arguments[0], item, f"{path}[{index}]") for index, item in enumerate(raw))
    if origin is UnionType:
        return None if raw is None else _build(arguments[0], raw, path)
    if hint is float and type(raw) is int:
        return float(raw)
    if type(raw) is not hint:
        raise ContractError(f"{path} must be of type {hint.__name__}, not {type(raw).__name__}")
    return raw


def _build_dataclass(cls: type[Any], raw: Any, path: str) -> Any:
    if not isinstance(raw, Mapping):
        raise ContractError(f"{path} must be an object")
    hints, values = get_type_hints(cls), {}
    for item in dataclasses.fields(cls):
        name = _camel(item.name)
        if name in raw:
            values[item.name] = _build(hints[item.name], raw[name], f"{path}.{name}")
        elif item.default is dataclasses.MISSING and item.default_factory is dataclasses.MISSING:
            raise ContractError(f"{path}.{name} is missing")
    return cls(**values)
