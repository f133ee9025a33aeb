"""The golden set: reading what the user gives, and writing what travels with the bundle."""

import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from edgefleet.build.errors import GoldenInvalid
from edgefleet.bundle.format import Tensor

Arrays = dict[str, NDArray[Any]]

_INPUT, _LABEL, _EXPECTED = "input/", "label/", "expected/"
_NUMPY: Final = {
    "BOOL": np.bool_,
    "UINT8": np.uint8,
    "UINT16": np.uint16,
    "UINT32": np.uint32,
    "UINT64": np.uint64,
    "INT8": np.int8,
    "INT16": np.int16,
    "INT32": np.int32,
    "INT64": np.int64,
    "FP16": np.float16,
    "FP32": np.float32,
    "FP64": np.float64,
}
_BYTES_CAP: Final = 4 << 30
"""Bytes a golden file may unpack to."""


@dataclass(frozen=True, slots=True)
class Samples:
    """Inputs by name, in the model's order, and labels by the name of the output they belong to."""

    inputs: Arrays
    labels: Arrays

    @property
    def count(self) -> int:
        """How many."""
        return len(next(iter(self.inputs.values())))


def read(path: Path, inputs: Sequence[Tensor], outputs: Sequence[Tensor]) -> Samples:
    """Read an npz with `input/<name>` (or just `<name>`) and, optional, `label/<output>`.

    Raises GoldenInvalid naming the array.
    """
    found = _arrays(path)
    names = {tensor.name for tensor in inputs}
    labels: Arrays = {}
    given: Arrays = {}
    for key, array in found.items():
        if key.startswith(_LABEL) and key.removeprefix(_LABEL) in {tensor.name for tensor in outputs}:
            labels[key.removeprefix(_LABEL)] = array
        elif key.removeprefix(_INPUT) in names:
            given[key.removeprefix(_INPUT)] = array
        else:
            wanted = [_INPUT + name for name in names] + [_LABEL + tensor.name for tensor in outputs]
            raise GoldenInvalid(
                f"{path}: {key!r} fits nothing in the model; it takes {', '.join(sorted(wanted))}"
            )
    fitted = {tensor.name: _fit(path, tensor, given) for tensor in inputs}
    count = len(fitted[inputs[0].name])
    for what, array in (*fitted.items(), *labels.items()):
        if array.ndim == 0 or len(array) != count:
            raise GoldenInvalid(
                f"{path}: {what!r} must have one entry for each of the {count} samples, has shape {array.shape}"
            )
    if count == 0:
        raise GoldenInvalid(f"{path} holds no sample")
    return Samples(fitted, labels)


def write(path: Path, samples: Samples, expected: Arrays) -> None:
    """Write golden.npz; equal content gives equal bytes."""
    arrays = {_INPUT + name: array for name, array in samples.inputs.items()}
    arrays |= {_EXPECTED + name: array for name, array in expected.items()}
    arrays |= {_LABEL + name: array for name, array in samples.labels.items()}
    with path.open("wb") as file:
        np.savez_compressed(file, **{name: arrays[name] for name in sorted(arrays)})  # type: ignore[arg-type]


def _arrays(path: Path) -> Arrays:
    try:
        with zipfile.ZipFile(path) as archive:
            size = sum(item.file_size for item in archive.infolist())
        if size > _BYTES_CAP:
            raise GoldenInvalid(f"{path} unpacks to {size} bytes; {_BYTES_CAP} are allowed")
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except (OSError, ValueError, zipfile.BadZipFile, EOFError) as error:
        raise GoldenInvalid(f"{path} is no .npz file of plain arrays: {error}") from error


def _fit(path: Path, tensor: Tensor, given: Arrays) -> NDArray[Any]:
    if tensor.name not in given:
        raise GoldenInvalid(f"{path} lacks the input {_INPUT + tensor.name!r}")
    array, kind = given[tensor.name], _NUMPY[tensor.datatype]
    if not np.can_cast(array.dtype, kind, "same_kind"):
        raise GoldenInvalid(
            f"{path}: input {tensor.name!r} is {array.dtype}, the model takes {tensor.datatype}"
        )
    rest = tensor.shape[1:]
    fits = array.ndim == len(tensor.shape) and all(
        size in (-1, is_) for size, is_ in zip(rest, array.shape[1:], strict=True)
    )
    if not fits:
        shape = ", ".join("any" if size == -1 else str(size) for size in rest)
        raise GoldenInvalid(
            f"{path}: input {tensor.name!r} has shape {array.shape}; it must be (samples{', ' + shape if shape else ''})"
        )
    return np.ascontiguousarray(array, dtype=kind)
