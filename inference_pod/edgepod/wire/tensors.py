"""Tensors and their datatypes, as plain bytes and as JSON data."""

import functools
import itertools
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Buffer = bytes | bytearray | memoryview

BYTES: Final = "BYTES"
"""Strings. In ONNX they are text, so elements that are not UTF-8 are refused."""
NUMERIC: Final[Mapping[str, np.dtype[Any]]] = {
    "BOOL": np.dtype(np.bool_),
    "UINT8": np.dtype("u1"),
    "UINT16": np.dtype("<u2"),
    "UINT32": np.dtype("<u4"),
    "UINT64": np.dtype("<u8"),
    "INT8": np.dtype("i1"),
    "INT16": np.dtype("<i2"),
    "INT32": np.dtype("<i4"),
    "INT64": np.dtype("<i8"),
    "FP16": np.dtype("<f2"),
    "FP32": np.dtype("<f4"),
    "FP64": np.dtype("<f8"),
}
DATATYPES: Final = (*NUMERIC, BYTES)
MAX_RANK: Final = 32
_NAMES: Final = {dtype: name for name, dtype in NUMERIC.items()}
_NESTED: Final = re.compile(rb"\s*\[\s*\[")


class WireError(ValueError):
    """Bytes that are not what the protocol says; the message names the field."""


def datatype_of(array: Array) -> str:
    """Protocol name of an array's element type. Raises WireError when it has none."""
    name = _NAMES.get(array.dtype)
    if name is not None:
        return name
    if array.dtype.kind in "OUS":
        return BYTES
    raise WireError(f"the protocol has no datatype for numpy's {array.dtype}")


def element_count(shape: Sequence[int]) -> int:
    """Elements of a tensor of this shape; 1 for a scalar's empty shape."""
    return math.prod(shape)


# -- plain bytes --------------------------------------------------------------------------------------


def from_bytes(datatype: str, shape: Sequence[int], data: Buffer) -> Array:
    """Read a binary tensor: little-endian, row-major; BYTES elements carry a 4-byte length. May share memory with `data`.

    Raises WireError when size and shape disagree.
    """
    count = element_count(shape)
    if datatype == BYTES:
        return np.array(_split(data, count), dtype=object).reshape(shape)
    dtype = NUMERIC[datatype]
    if len(data) != count * dtype.itemsize:
        raise WireError(
            f"shape {list(shape)} of {datatype} takes {count * dtype.itemsize} bytes, but {len(data)} are given"
        )
    array = np.frombuffer(data, dtype=dtype).reshape(shape)
    if datatype == "BOOL" and array.size and array.view(np.uint8).max() > 1:
        raise WireError("a BOOL is one byte, 0 or 1")
    # ONNX Runtime reads whole words; a tensor behind a header of odd length would start between them.
    return array if array.flags.aligned else array.copy()


def to_bytes(array: Array) -> Buffer:
    """The binary form of an array, without a copy where possible."""
    if array.dtype.kind in "OUS":
        return b"".join(_length_prefixed(item) for item in array.reshape(-1).tolist())
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8).data


def _length_prefixed(item: str | bytes) -> bytes:
    data = item.encode() if isinstance(item, str) else item
    return len(data).to_bytes(4, "little") + data


def _split(data: Buffer, count: int) -> list[str]:
    items: list[str] = []
    at, view = 0, memoryview(data)
    while at < len(view):
        end = at + 4 + int.from_bytes(view[at : at + 4], "little")
        if at + 4 > len(view) or end > len(view):
            raise WireError(f"BYTES element {len(items)} is longer than the data")
        items.append(_text(bytes(view[at + 4 : end]), len(items)))
        at = end
        if len(items) > count:
            break
    if len(items) != count:
        raise WireError(
            f"the shape has {count} elements, but the data has {'more' if len(items) > count else len(items)}"
        )
    return items


def _text(item: bytes, index: int) -> str:
    try:
        return item.decode()
    except UnicodeDecodeError as error:
        raise WireError(f"BYTES element {index} is not UTF-8, and ONNX strings are text") from error


# -- JSON ---------------------------------------------------------------------------------------------


def from_json(datatype: str, shape: Sequence[int], data: Buffer) -> Array:
    """Read the `data` of a JSON tensor, flat or nested. Raises WireError when type, range, size or nesting do not fit."""
    if datatype == "FP16":
        raise WireError("FP16 has no JSON form: send it as binary_data")
    count = element_count(shape)
    if 2 * count > len(data) + 1:  # every element takes a character and a comma
        raise WireError(f"the shape has {count} elements, more than the data can hold")
    nested = len(shape) > 1 and _NESTED.match(data) is not None
    try:
        values = _decoder(datatype, len(shape) if nested else 1).decode(data)
    except msgspec.MsgspecError as error:
        raise WireError(f"data: {error}") from error
    values = _flatten(values, shape if nested else (count,))
    return _to_array(datatype, values).reshape(shape)


@functools.lru_cache(maxsize=len(DATATYPES) * MAX_RANK)
def _decoder(datatype: str, depth: int) -> msgspec.json.Decoder[Any]:
    """A decoder for exactly this nesting: deeper data is a type error before it can exhaust a stack."""
    hint: Any
    if datatype == BYTES:
        hint = str
    elif datatype == "BOOL":
        hint = bool
    else:
        hint = float if datatype.startswith("FP") else int
    for _ in range(depth):
        hint = list[hint]
    return msgspec.json.Decoder(hint)


def _flatten(values: list[Any], shape: Sequence[int]) -> list[Any]:
    level = [values]
    for axis, size in enumerate(shape):
        if any(len(row) != size for row in level):
            got = next(len(row) for row in level if len(row) != size)
            where = "the data has" if len(shape) == 1 else f"axis {axis} of the data has"
            raise WireError(f"{where} {got} elements where the shape says {size}")
        level = list(itertools.chain.from_iterable(level)) if axis + 1 < len(shape) else level
    return list(itertools.chain.from_iterable(level)) if len(shape) > 1 else values


def _to_array(datatype: str, values: list[Any]) -> Array:
    if datatype == BYTES:
        return np.array(values, dtype=object)
    dtype = NUMERIC[datatype]
    try:
        if dtype.kind == "f":
            with np.errstate(over="raise"):
                return np.array(values, dtype=np.float64).astype(dtype)
        return np.array(values, dtype=dtype)
    except (OverflowError, FloatingPointError) as error:
        raise WireError(f"data: a value does not fit {datatype}") from error


def to_json(array: Array) -> list[Any]:
    """Flat JSON data. NaN and infinities, for which JSON has no number, become null."""
    if array.dtype == np.float16:
        raise WireError("FP16 has no JSON form: ask for it with binary_data")
    values: list[Any] = array.reshape(-1).tolist()
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        return [value if math.isfinite(value) else None for value in values]
    return values
