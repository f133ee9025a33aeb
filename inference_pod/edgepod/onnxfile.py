"""A look at an ONNX file before ONNX Runtime gets it: is it ONNX at all, and is it whole in itself?

ONNX keeps large tensors in other files if it likes ("external data"), and ONNX Runtime follows a hard link out of the
model's folder. Only single files carry a digest that says all, so external data is refused. This walks the protobuf
structure and skips everything else; it needs no ONNX package, and its memory does not grow with the file.
"""

# ruff: noqa: N818 - the names say what happened; a suffix says nothing in them
import mmap
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

MAX_BYTES: Final = 2 * 1024**3 - 1
"""Protobuf's own limit for one message."""
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_TENSOR: Final = "tensor"
_GRAPH_FIELD: Final = 7
# Which fields of which message hold further messages that can hold a tensor.
_INSIDE: Final[Mapping[str, Mapping[int, str]]] = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "function": {7: "node", 11: "attribute"},
    "graph": {1: "node", 5: _TENSOR, 15: "sparse"},
    "node": {5: "attribute"},
    "attribute": {5: _TENSOR, 6: "graph", 10: _TENSOR, 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: _TENSOR, 2: _TENSOR},
    _TENSOR: {},
}
_TENSOR_NAME, _EXTERNAL_DATA, _DATA_LOCATION = 8, 13, 14


class NotOnnx(ValueError):
    """The file is not an ONNX model; the message says what is wrong."""


class ExternalData(ValueError):
    """The model keeps tensors in other files."""


def check(path: Path) -> None:
    """Raises NotOnnx, ExternalData, or OSError when the file cannot be read."""
    size = path.stat().st_size
    if size == 0:
        raise NotOnnx(f"{path.name} is empty")
    if size > MAX_BYTES:
        raise NotOnnx(f"{path.name} has {size} bytes; an ONNX file ends at 2 GiB")
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        try:
            _walk(data, size)
        except (IndexError, _Malformed) as error:
            raise NotOnnx(f"{path.name} is not an ONNX model: {error}") from error


class _Malformed(Exception):
    pass


def _walk(data: mmap.mmap, size: int) -> None:
    has_graph = False
    todo = [("model", 0, size)]
    while todo:
        message, start, end = todo.pop()
        name, external = "", False
        for number, wire_type, value_start, value_end in _fields(data, start, end):
            inner = _INSIDE[message].get(number)
            if inner is not None and wire_type == _BYTES:
                todo.append((inner, value_start, value_end))
                has_graph = has_graph or (message == "model" and number == _GRAPH_FIELD)
            elif message == _TENSOR and number == _TENSOR_NAME and wire_type == _BYTES:
                name = data[value_start : min(value_end, value_start + 100)].decode(errors="replace")
            elif message == _TENSOR and number in (_EXTERNAL_DATA, _DATA_LOCATION):
                external = external or number == _EXTERNAL_DATA or data[value_start:value_end] != b"\0"
        if external:
            raise ExternalData(
                f"tensor {name!r} is kept in another file; only models whose weights are in the one file are served"
            )
    if not has_graph:
        raise _Malformed("it holds no graph")


def _fields(data: mmap.mmap, at: int, end: int) -> Iterator[tuple[int, int, int, int]]:
    """Number, wire type, start and end of the value of each field of one message."""
    while at < end:
        key, at = _varint(data, at, end)
        number, wire_type = key >> 3, key & 7
        start = at
        if wire_type == _VARINT:
            _, at = _varint(data, at, end)
        elif wire_type == _FIXED64:
            at += 8
        elif wire_type == _FIXED32:
            at += 4
        elif wire_type == _BYTES:
            length, start = _varint(data, at, end)
            at = start + length
        else:
            raise _Malformed(f"no protobuf field begins at byte {start}")
        if at > end or number == 0:
            raise _Malformed(
                f"the field at byte {start} runs past its end; the file is cut short or something else"
            )
        yield number, wire_type, start, at


def _varint(data: mmap.mmap, at: int, end: int) -> tuple[int, int]:
    value = shift = 0
    while at < end and shift < 70:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
    raise _Malformed(f"the number at byte {at} does not end")
