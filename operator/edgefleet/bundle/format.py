"""bundle.json and the OCI manifest around it: what they look like and how strictly they are read.

A bundle is an OCI artifact:

- manifest, artifactType `ARTIFACT_TYPE`; its digest is the bundle's digest;
- config: the exact bytes of bundle.json;
- layers: the ONNX file of each variant, golden.npz, and the DSSE envelope whose payload is bundle.json again.

Everything below the signature is read strictly: duplicate keys, unknown fields, unknown digests and numbers out
of bounds are refused, so that two readers cannot understand one signed document in two ways.
"""

import json
import math
from typing import Annotated, Any, Final, TypeVar

import msgspec

from edgefleet.bundle.errors import Malformed, NotABundle, TooLarge, UnsupportedFormat

FORMAT: Final = 1
ARTIFACT_TYPE: Final = "application/vnd.cncf.model.manifest.v1+json"
MANIFEST_TYPE: Final = "application/vnd.oci.image.manifest.v1+json"
CONFIG_TYPE: Final = "application/vnd.edgefleet.bundle.config.v1+json"
ENVELOPE_TYPE: Final = "application/vnd.edgefleet.bundle.dsse.v1+json"
WEIGHT_TYPE: Final = "application/vnd.cncf.model.weight.v1.raw"
DATASET_TYPE: Final = "application/vnd.cncf.model.dataset.v1.raw"
FILEPATH: Final = "org.cncf.model.filepath"

DOCUMENT_CAP: Final = 512 * 1024
"""Bytes a manifest, a bundle.json or an envelope's payload may have."""
ENVELOPE_CAP: Final = 768 * 1024
"""Bytes of an envelope: a payload at its cap in base64, and signatures."""
FILE_CAP: Final = 2**31 - 1
"""Bytes of a model or a golden set: what protobuf can hold."""
MAX_VARIANTS: Final = 8

_T = TypeVar("_T")

Digest = Annotated[str, msgspec.Meta(pattern=r"\Asha256:[0-9a-f]{64}\Z")]
Label = Annotated[str, msgspec.Meta(pattern=r"\A[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?\Z")]
VariantName = Annotated[str, msgspec.Meta(pattern=r"\A[a-z0-9]([-a-z0-9]{0,30}[a-z0-9])?\Z")]
Timestamp = Annotated[str, msgspec.Meta(pattern=r"\A\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ\Z")]
FileSize = Annotated[int, msgspec.Meta(ge=1, le=FILE_CAP)]
Share = Annotated[float, msgspec.Meta(ge=0, le=1)]
TensorName = Annotated[str, msgspec.Meta(min_length=1, max_length=256, pattern=r"\A[^\x00-\x1f\x7f]+\Z")]
Datatype = Annotated[str, msgspec.Meta(pattern=r"\A(BOOL|U?INT(8|16|32|64)|FP(16|32|64)|BF16|BYTES)\Z")]
Dimension = Annotated[int, msgspec.Meta(ge=-1, le=2**31 - 1)]
Feature = Annotated[str, msgspec.Meta(pattern=r"\A[a-z0-9_.-]{1,32}\Z")]


class Document(msgspec.Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """Base of what is signed: camelCase, nothing unknown."""


class Note(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Base of what is only for people to read: unknown fields are ignored."""


class File(Document, frozen=True, kw_only=True):
    """A file of the bundle. `size` in bytes."""

    digest: Digest
    size: FileSize


class Requirements(Document, frozen=True, kw_only=True):
    """What a site must have to run a variant."""

    cpu_features: Annotated[tuple[Feature, ...], msgspec.Meta(max_length=16)] = ()
    """Names as in /proc/cpuinfo; all of them are needed."""
    memory_bytes: Annotated[int, msgspec.Meta(ge=0, le=2**50)] = 0
    """Peak resident memory of one run at build time."""


class Variant(Document, frozen=True, kw_only=True):
    """One way to run the model: the same model at one precision."""

    name: VariantName
    file: File
    precision: Annotated[str, msgspec.Meta(min_length=1, max_length=32)]
    """`fp32`, `int8` (static), `int8-dynamic`."""
    requirements: Requirements = Requirements()
    accuracy: Share | None = None
    """Against the labels of the golden set; None when it has none."""
    agreement: Share
    """With the float model's answers on the golden set, on the machine that built it."""


class Golden(Document, frozen=True, kw_only=True):
    """The golden set, see edgepod.contract.Golden."""

    file: File
    samples: Annotated[int, msgspec.Meta(ge=1, le=1_000_000)]
    metric: Annotated[str, msgspec.Meta(pattern=r"\A(top1|equal|close)\Z")]
    rtol: Annotated[float, msgspec.Meta(ge=0, le=1e9)] = 0.0
    atol: Annotated[float, msgspec.Meta(ge=0, le=1e9)] = 0.0


class Tensor(Document, frozen=True, kw_only=True):
    """An input or output: Open Inference Protocol datatype, and shape with -1 for a free dimension."""

    name: TensorName
    datatype: Datatype
    shape: Annotated[tuple[Dimension, ...], msgspec.Meta(max_length=16)]


class Measured(Note, frozen=True, kw_only=True):
    """One line of the build's table."""

    variant: str
    bytes: int
    accuracy: float | None = None
    agreement: float
    drop: float
    """Accuracy lost against the float model, as a share; without labels 1 - agreement."""
    p50_ms: float = 0.0
    """Median time of one run with one sample on the building machine."""


class BuildReport(Note, frozen=True, kw_only=True):
    """How the bundle came to be."""

    max_drop: float
    """The gate: a share."""
    measured_by: str
    """`labels` or `agreement`."""
    source: str = ""
    """Digest of the ONNX file that was given."""
    before: Measured
    after: tuple[Measured, ...] = ()
    tools: dict[str, str] = {}


class BundleConfig(Document, frozen=True, kw_only=True):
    """bundle.json."""

    format: int
    name: Label
    version: Annotated[int, msgspec.Meta(ge=1, le=2**53 - 1)]
    """Grows with every release of the model."""
    created: Timestamp
    variants: Annotated[tuple[Variant, ...], msgspec.Meta(min_length=1, max_length=MAX_VARIANTS)]
    """In the builder's order of preference."""
    golden: Golden
    inputs: Annotated[tuple[Tensor, ...], msgspec.Meta(min_length=1, max_length=64)]
    outputs: Annotated[tuple[Tensor, ...], msgspec.Meta(min_length=1, max_length=64)]
    report: BuildReport


class Descriptor(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """OCI content descriptor; other tools may add fields."""

    media_type: str
    digest: Digest
    size: FileSize
    annotations: dict[str, str] = {}


class Manifest(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """OCI image manifest, as far as a bundle uses it."""

    schema_version: int
    media_type: str
    artifact_type: str = ""
    config: Descriptor
    layers: Annotated[tuple[Descriptor, ...], msgspec.Meta(max_length=64)]
    annotations: dict[str, str] = {}


def canonical(document: msgspec.Struct) -> bytes:
    """JSON with sorted keys and no spaces: equal documents have equal digests."""
    return msgspec.json.encode(document, order="sorted")


def parse_bundle(data: bytes) -> BundleConfig:
    """Read bundle.json. Raises Malformed, TooLarge, UnsupportedFormat."""
    raw = strict_json(data, "bundle.json")
    number = raw.get("format") if isinstance(raw, dict) else None
    if type(number) is int and number > FORMAT:
        raise UnsupportedFormat(
            f"bundle.json has format {number}; this edgefleet reads up to {FORMAT}: upgrade it"
        )
    config = _convert(raw, BundleConfig, "bundle.json")
    if config.format != FORMAT:
        raise Malformed(f"bundle.json: format must be {FORMAT}, not {config.format}")
    for what, names in (
        ("variants", [item.name for item in config.variants]),
        ("inputs", [item.name for item in config.inputs]),
        ("outputs", [item.name for item in config.outputs]),
    ):
        if len(set(names)) != len(names):
            raise Malformed(f"bundle.json: two {what} have the same name")
    return config


def parse_manifest(data: bytes) -> Manifest:
    """Read a manifest. Raises NotABundle, Malformed, TooLarge."""
    raw = strict_json(data, "the manifest")
    if not isinstance(raw, dict):
        raise NotABundle("the manifest is no JSON object")
    kind, artifact = raw.get("mediaType"), raw.get("artifactType")
    if kind != MANIFEST_TYPE or artifact != ARTIFACT_TYPE:
        raise NotABundle(f"not an edgefleet bundle: mediaType {kind!r}, artifactType {artifact!r}")
    manifest = _convert(raw, Manifest, "the manifest")
    if manifest.config.media_type != CONFIG_TYPE:
        raise NotABundle(f"not an edgefleet bundle: its config is {manifest.config.media_type!r}")
    return manifest


def _convert(raw: Any, kind: type[_T], what: str) -> _T:
    try:
        return msgspec.convert(raw, kind)
    except msgspec.ValidationError as error:
        raise Malformed(f"{what}: {error}") from error


def strict_json(data: bytes, what: str, cap: int = DOCUMENT_CAP) -> Any:
    """Parse JSON that means the same to every reader. Raises Malformed, TooLarge."""
    if len(data) > cap:
        raise TooLarge(f"{what} has {len(data)} bytes, more than the {cap} allowed")
    try:
        found = json.loads(
            data.decode("utf-8"),
            object_pairs_hook=_no_duplicates,
            parse_constant=_no_constant,
            parse_float=_finite,
        )
        json.dumps(found, ensure_ascii=False).encode("utf-8")  # half a surrogate pair cannot be written again
    except RecursionError as error:
        raise Malformed(f"{what} is nested too deeply") from error
    except ValueError as error:
        raise Malformed(f"{what} is not strict JSON: {error}") from error
    return found


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [key for key, _ in pairs]
        twice = next(key for key in names if names.count(key) > 1)
        raise ValueError(f"the key {twice!r} appears twice")
    return found


def _no_constant(text: str) -> float:
    raise ValueError(f"{text} is no JSON number")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"the number {text} is out of range")
    return value
