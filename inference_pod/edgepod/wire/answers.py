"""Inference answers: written by the pod, read by the client and by the canary splitter."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Final

import msgspec
import numpy as np

from edgepod.wire import codec, tensors
from edgepod.wire.requests import Scalar, Wanted
from edgepod.wire.tensors import Array, Buffer, WireError

MAX_DECODED_BYTES: Final = 256 * 1024 * 1024


class Output(msgspec.Struct, frozen=True):
    """One output and how to send it."""

    name: str
    array: Array
    wanted: Wanted


class Encoded(msgspec.Struct, frozen=True):
    """An answer's body."""

    parts: tuple[Buffer, ...]
    size: int
    raw_size: int
    """What `size` would be without compression."""
    header_length: int | None
    """Length of the JSON part when binary data follows."""


def encode(
    model: str, version: str, request_id: str, outputs: Sequence[Output], min_bytes: int | None
) -> Encoded:
    """Write an answer. Binary outputs of at least `min_bytes` are compressed where the caller can read it and it saves.

    `min_bytes` None: never. Raises WireError when an output has no JSON form.
    """
    heads: list[dict[str, Any]] = []
    buffers: list[Buffer] = []
    size = saved = 0
    for output in outputs:
        head: dict[str, Any] = {
            "name": output.name,
            "datatype": tensors.datatype_of(output.array),
            "shape": list(output.array.shape),
        }
        if output.wanted.binary:
            raw = tensors.to_bytes(output.array)
            data, head["parameters"] = _pack(raw, output.wanted.codecs, min_bytes)
            size += len(data)
            saved += len(raw) - len(data)
            buffers.append(data)
        else:
            head["data"] = _json_data(output)
        heads.append(head)
    text = msgspec.json.encode(
        {"model_name": model, "model_version": version, "outputs": heads}
        | ({"id": request_id} if request_id else {})
    )
    size += len(text)
    return Encoded((text, *buffers), size, size + saved, len(text) if buffers else None)


def _pack(
    raw: Buffer, codecs: tuple[str, ...] | None, min_bytes: int | None
) -> tuple[Buffer, dict[str, Scalar]]:
    """Bytes to send, and the parameters which tell what was done."""
    if codecs is None:
        return raw, {"binary_data_size": len(raw)}
    if codecs and min_bytes is not None and len(raw) >= min_bytes:
        frame = codec.shrink(raw)
        if frame is not None:
            return frame, {"binary_data_size": len(frame), "codec": codec.LZ4, "decoded_size": len(raw)}
    return raw, {"binary_data_size": len(raw), "codec": codec.IDENTITY}


def _json_data(output: Output) -> list[Any]:
    try:
        return tensors.to_json(output.array)
    except WireError as error:
        raise WireError(f"output {output.name!r}: {error}") from error


# -- the caller's side --------------------------------------------------------------------------------


class _Output(msgspec.Struct):
    name: str
    datatype: str
    shape: Annotated[
        list[Annotated[int, msgspec.Meta(ge=0, lt=2**40)]], msgspec.Meta(max_length=tensors.MAX_RANK)
    ]
    parameters: dict[str, Scalar] = {}
    data: msgspec.Raw = msgspec.Raw()


class _Head(msgspec.Struct):
    outputs: list[_Output]
    model_name: str = ""
    model_version: str | None = None
    id: str | None = None


_HEAD: Final = msgspec.json.Decoder(_Head)


@dataclass(frozen=True, slots=True)
class Answer:
    """What a pod answered."""

    model: str
    version: str
    id: str
    outputs: dict[str, Array]
    codecs: dict[str, str]
    """What was done to each output: `lz4` or `identity`."""
    raw_bytes: int
    """Size of the body had nothing been compressed."""


def decode(body: Buffer, header_length: str | None, max_bytes: int = MAX_DECODED_BYTES) -> Answer:
    """Read an answer, allocating at most `max_bytes` for outputs whatever it declares. Raises WireError."""
    split = len(body) if header_length is None else _length(header_length, len(body))
    view = memoryview(body)
    try:
        head = _HEAD.decode(view[:split])
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise WireError(f"inference answer: {error}") from error
    outputs, codecs, at, saved = {}, {}, split, 0
    for item in head.outputs:
        size = item.parameters.get("binary_data_size")
        if type(size) is not int:
            outputs[item.name] = _from_json(item, max_bytes)
            continue
        if size < 0 or at + size > len(body):
            raise WireError(
                f"output {item.name!r}: binary_data_size is {size}, but {len(body) - at} bytes are left"
            )
        raw = _unpack(item, view[at : at + size], max_bytes)
        outputs[item.name] = tensors.from_bytes(item.datatype, item.shape, raw)
        codecs[item.name] = str(item.parameters.get("codec", codec.IDENTITY))
        max_bytes -= len(raw)
        saved += len(raw) - size
        at += size
    return Answer(
        head.model_name, head.model_version or "", head.id or "", outputs, codecs, raw_bytes=len(body) + saved
    )


def raw_size(body: Buffer, header_length: str | None) -> int:
    """Size an answer's body would have without compression, by what its head says; nothing is decompressed."""
    try:
        head = _HEAD.decode(
            memoryview(body)[: len(body) if header_length is None else _length(header_length, len(body))]
        )
    except (WireError, msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
        return len(body)
    size = len(body)
    for item in head.outputs:
        sent, decoded = item.parameters.get("binary_data_size"), item.parameters.get("decoded_size")
        if type(sent) is int and type(decoded) is int:
            size += decoded - sent
    return size


def _length(text: str, limit: int) -> int:
    if not text.isdecimal() or not 0 < int(text[:12]) <= limit:
        raise WireError(f"Inference-Header-Content-Length is {text[:40]!r}, the body has {limit} bytes")
    return int(text)


def _unpack(item: _Output, data: memoryview, max_bytes: int) -> Buffer:
    if item.datatype not in tensors.DATATYPES:
        raise WireError(f"output {item.name!r}: unknown datatype {item.datatype!r}")
    used = item.parameters.get("codec", codec.IDENTITY)
    if used == codec.IDENTITY:
        return data
    if used != codec.LZ4:
        raise WireError(f"output {item.name!r}: unknown codec {used!r}")
    declared = item.parameters.get("decoded_size")
    if type(declared) is not int or not 0 <= declared <= max_bytes:
        raise WireError(
            f"output {item.name!r}: decoded_size must be a number up to {max_bytes}, not {declared!r}"
        )
    return codec.expand(data, declared)


def _from_json(item: _Output, max_bytes: int) -> Array:
    if item.datatype not in tensors.DATATYPES or 8 * tensors.element_count(item.shape) > max_bytes:
        raise WireError(
            f"output {item.name!r}: shape {item.shape} of {item.datatype!r} is more than this reader allows"
        )
    if item.datatype in ("FP32", "FP64"):
        values = msgspec.json.decode(item.data, type=list[float | None])
        array = np.array(
            [np.nan if value is None else value for value in values], tensors.NUMERIC[item.datatype]
        )
        if array.size != tensors.element_count(item.shape):
            raise WireError(f"output {item.name!r}: {array.size} elements do not fill shape {item.shape}")
        return array.reshape(item.shape)
    return tensors.from_json(item.datatype, item.shape, bytes(item.data))
