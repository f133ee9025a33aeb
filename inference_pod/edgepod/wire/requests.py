"""Inference requests: read by the pod, written by the client."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any, Final

import msgspec

from edgepod.wire import tensors
from edgepod.wire.codec import CODECS
from edgepod.wire.tensors import Array, Buffer, WireError

MAX_JSON_BYTES: Final = 16 * 1024 * 1024
"""JSON numbers take up to ten times their text in memory; larger tensors are sent as binary."""
ACCEPT_CODEC: Final = "accept_codec"
"""Vendor extension, parameter of a request or of one requested output: codecs the caller can read, comma-separated."""
_DIGITS: Final = re.compile(r"[0-9]{1,12}\Z")

Scalar = str | int | float | bool | None


class _Input(msgspec.Struct):
    name: str
    datatype: str
    shape: Annotated[
        list[Annotated[int, msgspec.Meta(ge=1, le=2**62)]], msgspec.Meta(max_length=tensors.MAX_RANK)
    ]
    parameters: dict[str, Scalar] = {}
    data: msgspec.Raw = msgspec.Raw()


class _Output(msgspec.Struct):
    name: str
    parameters: dict[str, Scalar] = {}


class _Head(msgspec.Struct):
    inputs: Annotated[list[_Input], msgspec.Meta(min_length=1, max_length=1024)]
    id: str = ""
    parameters: dict[str, Scalar] = {}
    outputs: Annotated[list[_Output], msgspec.Meta(max_length=1024)] = []


_HEAD: Final = msgspec.json.Decoder(_Head)


class Wanted(msgspec.Struct, frozen=True):
    """How one output is to be sent."""

    binary: bool
    codecs: tuple[str, ...] | None
    """Codecs the caller can read; None: it did not say, so nothing about codecs is answered."""


_PLAIN: Final = Wanted(False, None)


class Request(msgspec.Struct, frozen=True):
    """An inference request, as far as it can be judged without the model."""

    id: str
    inputs: Mapping[str, Array]
    outputs: Mapping[str, Wanted]
    """Requested outputs in their order; empty: all."""
    default: Wanted
    """For outputs not named."""


def decode(body: Buffer, header_length: str | None = None, accept_codec: str | None = None) -> Request:
    """Read a request. `header_length`: text of Inference-Header-Content-Length; `accept_codec`: of Accept-Tensor-Codec.

    Raises WireError.
    """
    split = _split_at(body, header_length)
    view = memoryview(body)
    if split > MAX_JSON_BYTES:
        raise WireError(
            f"the JSON part has {split} bytes, the limit is {MAX_JSON_BYTES}: send tensors as binary_data"
        )
    head = _decode_head(view[:split])
    default = _PLAIN if accept_codec is None else Wanted(False, _codecs(accept_codec))
    default = _wanted(head.parameters, default, "binary_data_output", "request")
    return Request(
        id=head.id,
        inputs=_inputs(head.inputs, view[split:]),
        outputs=_outputs(head.outputs, default),
        default=default,
    )


def _split_at(body: Buffer, header_length: str | None) -> int:
    if header_length is None:
        return len(body)
    if not _DIGITS.match(header_length) or not 0 < int(header_length) <= len(body):
        raise WireError(
            f"Inference-Header-Content-Length must be a number from 1 to the body's {len(body)} bytes, not {header_length[:40]!r}"
        )
    return int(header_length)


def _decode_head(text: Buffer) -> _Head:
    try:
        return _HEAD.decode(text)
    except msgspec.ValidationError as error:
        raise WireError(f"inference request: {error}") from error
    except msgspec.DecodeError as error:
        raise WireError(
            f"inference request: not JSON: {error}. A body with binary data needs Inference-Header-Content-Length"
        ) from error
    except (RecursionError, UnicodeDecodeError) as error:
        raise WireError(f"inference request: not JSON: {error}") from error


def _inputs(heads: Sequence[_Input], binary: memoryview) -> dict[str, Array]:
    arrays: dict[str, Array] = {}
    at = 0
    for head in heads:
        if head.name in arrays:
            raise WireError(f"input {_short(head.name)} is given twice")
        if head.datatype not in tensors.DATATYPES:
            raise WireError(
                f"input {_short(head.name)}: datatype must be one of {', '.join(tensors.DATATYPES)}, not {_short(head.datatype)}"
            )
        size = _binary_size(head)
        if size is not None and at + size > len(binary):
            raise WireError(
                f"input {_short(head.name)}: binary_data_size is {size}, but {len(binary) - at} bytes are left"
            )
        try:
            if size is None:
                arrays[head.name] = tensors.from_json(head.datatype, head.shape, memoryview(head.data))
            else:
                arrays[head.name] = tensors.from_bytes(head.datatype, head.shape, binary[at : at + size])
        except WireError as error:
            raise WireError(f"input {_short(head.name)}: {error}") from error
        at += size or 0
    if at != len(binary):
        raise WireError(f"{len(binary) - at} bytes follow the binary data of the inputs")
    return arrays


def _binary_size(head: _Input) -> int | None:
    size = head.parameters.get("binary_data_size")
    has_data = memoryview(head.data).nbytes > 0
    if size is None and not has_data:
        raise WireError(f"input {_short(head.name)} has neither data nor the parameter binary_data_size")
    if size is not None and has_data:
        raise WireError(f"input {_short(head.name)} has both data and the parameter binary_data_size")
    if size is not None and (type(size) is not int or size < 0):
        raise WireError(
            f"input {_short(head.name)}: binary_data_size must be a whole number, not {_short(str(size))}"
        )
    return size


def _outputs(heads: Sequence[_Output], default: Wanted) -> dict[str, Wanted]:
    wanted: dict[str, Wanted] = {}
    for head in heads:
        if head.name in wanted:
            raise WireError(f"output {_short(head.name)} is requested twice")
        wanted[head.name] = _wanted(head.parameters, default, "binary_data", f"output {_short(head.name)}")
    return wanted


def _wanted(parameters: Mapping[str, Scalar], default: Wanted, binary_name: str, what: str) -> Wanted:
    if not parameters:
        return default
    binary, accept = parameters.get(binary_name, default.binary), parameters.get(ACCEPT_CODEC)
    if not isinstance(binary, bool):
        raise WireError(f"{what}: parameter {binary_name} must be true or false")
    if accept is not None and not isinstance(accept, str):
        raise WireError(f'{what}: parameter {ACCEPT_CODEC} must be a string like "lz4"')
    return Wanted(binary, default.codecs if accept is None else _codecs(accept))


def _codecs(accept: str | None) -> tuple[str, ...] | None:
    """Of the codecs a caller lists, those known here; unknown ones are passed over, as in HTTP's Accept-Encoding."""
    if accept is None:
        return None
    listed = {item.strip().lower() for item in accept.split(",")}
    return tuple(codec for codec in CODECS if codec in listed)


def _short(text: str) -> str:
    """A caller's text, fit for an error message."""
    return repr(text if len(text) <= 60 else text[:57] + "...")


# -- the caller's side --------------------------------------------------------------------------------


def encode(
    inputs: Mapping[str, Array], outputs: Iterable[str] = (), *, codec: str | None = None
) -> tuple[bytes, int]:
    """A request with binary inputs and binary outputs: body and the length of its JSON part."""
    buffers = {name: tensors.to_bytes(array) for name, array in inputs.items()}
    head: dict[str, Any] = {
        "inputs": [
            {
                "name": name,
                "datatype": tensors.datatype_of(array),
                "shape": list(array.shape),
                "parameters": {"binary_data_size": len(buffers[name])},
            }
            for name, array in inputs.items()
        ],
        "parameters": {"binary_data_output": True},
    }
    if codec is not None:
        head["parameters"][ACCEPT_CODEC] = codec
    if names := list(outputs):
        head["outputs"] = [{"name": name} for name in names]
    text = msgspec.json.encode(head)
    return b"".join((text, *buffers.values())), len(text)
