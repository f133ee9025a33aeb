"""The golden set: inputs, and what the float model answered to them at build time."""

# ruff: noqa: N818 - the names say what happened; a suffix says nothing in them
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgepod.contract import TensorSpec
from edgepod.wire.tensors import BYTES, NUMERIC, Array


class GoldenInvalid(ValueError):
    """The file is not a golden set for this model; the message says why."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One run of the model: what goes in, what should come out, and the true labels if they are known."""

    inputs: Mapping[str, Array]
    expected: Mapping[str, Array]
    labels: Mapping[str, Array]


class GoldenSet:
    """Arrays `input/<name>`, `expected/<name>`, `label/<name>` of an npz file; the first axis is the sample."""

    def __init__(self, path: Path, inputs: Sequence[TensorSpec]) -> None:
        """Read it for a model with these inputs. Raises GoldenInvalid."""
        try:
            with np.load(path, allow_pickle=False) as file:
                arrays = {name: file[name] for name in file.files}
        except (ValueError, OSError, KeyError, EOFError, AttributeError, zipfile.BadZipFile) as error:
            raise GoldenInvalid(f"{path.name} is not an npz file: {error}") from error
        self._inputs = {spec.name: _typed(_need(arrays, f"input/{spec.name}"), spec) for spec in inputs}
        self._expected = _under("expected/", arrays)
        self._labels = _under("label/", arrays)
        if not self._expected:
            raise GoldenInvalid("the golden set has no array expected/<output>")
        self._inner = {spec.name: self._inputs[spec.name].ndim == len(spec.shape) + 1 for spec in inputs}
        self._batch = _batch(self._inputs, self._inner, inputs)
        everything = (*self._inputs.values(), *self._expected.values(), *self._labels.values())
        counts = {len(array) if array.ndim else 0 for array in everything}
        if len(counts) != 1 or 0 in counts:
            raise GoldenInvalid(
                f"the arrays of the golden set must have the same number of samples, not {sorted(counts)}"
            )
        self.runs = counts.pop() // self._batch
        if not self.runs:
            raise GoldenInvalid(
                f"the model takes {self._batch} samples at once, more than the golden set has"
            )

    @property
    def samples(self) -> int:
        """Samples that are run."""
        return self.runs * self._batch

    @property
    def outputs(self) -> tuple[str, ...]:
        """Outputs it has expectations for."""
        return tuple(self._expected)

    def __iter__(self) -> Iterator[Sample]:
        """One sample after the other, or as many at once as the model's fixed batch takes."""
        for run in range(self.runs):
            rows = slice(run * self._batch, (run + 1) * self._batch)
            yield Sample(
                {
                    name: array[rows][0] if self._inner[name] else array[rows]
                    for name, array in self._inputs.items()
                },
                {name: array[rows] for name, array in self._expected.items()},
                {name: array[rows] for name, array in self._labels.items()},
            )


def fit(array: Array, rows: Array) -> Array:
    """Expected rows in the shape the model answers: without the sample axis where the model knows none."""
    return rows[0] if rows.ndim == array.ndim + 1 and len(rows) == 1 else rows


def _need(arrays: Mapping[str, Array], name: str) -> Array:
    if name not in arrays:
        raise GoldenInvalid(f"the golden set has no array {name}")
    return arrays[name]


def _under(prefix: str, arrays: Mapping[str, Array]) -> dict[str, Array]:
    return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}


def _typed(array: Array, spec: TensorSpec) -> Array:
    if spec.datatype == BYTES and array.dtype.kind in "US":
        return array.astype(np.str_).astype(object)
    if spec.datatype == BYTES or array.dtype != NUMERIC[spec.datatype]:
        raise GoldenInvalid(f"input/{spec.name} is {array.dtype}, but the model takes {spec.datatype}")
    if array.ndim not in (len(spec.shape), len(spec.shape) + 1):
        raise GoldenInvalid(
            f"input/{spec.name} has the shape {list(array.shape)}, but the model takes {list(spec.shape)}"
        )
    return array


def _batch(arrays: Mapping[str, Array], inner: Mapping[str, bool], inputs: Sequence[TensorSpec]) -> int:
    """Samples the model takes at once: what its first axis says, where it is the sample axis and fixed."""
    sizes = {spec.shape[0] for spec in inputs if not inner[spec.name] and spec.shape and spec.shape[0] > 0}
    if len(sizes) > 1 or (sizes - {1} and any(inner.values())):
        raise GoldenInvalid(f"the inputs {', '.join(arrays)} disagree on how many samples they take at once")
    return sizes.pop() if sizes else 1
