"""ONNX Runtime: load, run. The only module that imports it.

Knows neither HTTP nor the site. Telemetry is off, threads fit the container, and idle threads sleep: spinning ones
would eat the CPU of the neighbours on a small box.
"""

# ruff: noqa: N818 - the names say what happened; a suffix says nothing in them
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from edgepod import cgroup, onnxfile
from edgepod.contract import TensorSpec
from edgepod.wire.tensors import BYTES, NUMERIC, Array

# Importing it is enough for ONNX Runtime to make a device id, a database of events in the home folder and a thread that
# uploads them; `disable_telemetry_events` comes too late for that.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
import onnxruntime

_DATATYPES: Final[Mapping[str, str]] = {
    "tensor(bool)": "BOOL",
    "tensor(uint8)": "UINT8",
    "tensor(uint16)": "UINT16",
    "tensor(uint32)": "UINT32",
    "tensor(uint64)": "UINT64",
    "tensor(int8)": "INT8",
    "tensor(int16)": "INT16",
    "tensor(int32)": "INT32",
    "tensor(int64)": "INT64",
    "tensor(float16)": "FP16",
    "tensor(float)": "FP32",
    "tensor(double)": "FP64",
    "tensor(string)": BYTES,
}
_ERRORS_ONLY: Final = 3

onnxruntime.disable_telemetry_events()


class LoadError(Exception):
    """A file that cannot be served, for a reason in the file. `reason` is CamelCase."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class RunError(Exception):
    """The model failed on an input that fits its signature."""


class Stopped(RunError):
    """The run was ended by `Stop.now`."""


class Stop:
    """A handle to end one run from another thread."""

    def __init__(self) -> None:
        self.options: Any = onnxruntime.RunOptions()

    def now(self) -> None:
        """The run ends at the next operator, with Stopped."""
        self.options.terminate = True


class Engine:
    """One loaded model. Safe to run from several threads."""

    def __init__(self, session: Any, path: Path) -> None:
        self._session = session
        self.inputs = tuple(_spec(node, path) for node in session.get_inputs())
        nodes = session.get_outputs()
        # Sequences and maps (scikit-learn's converter adds one beside the probabilities) have no place in the protocol.
        self.outputs = tuple(_spec(node, path) for node in nodes if node.type.startswith("tensor("))
        self.left_out = tuple(node.name for node in nodes if not node.type.startswith("tensor("))
        if not self.outputs:
            raise LoadError("UnsupportedModel", f"{path.name} has no output that is a tensor")

    @classmethod
    def load(cls, path: Path, threads: int | None = None) -> "Engine":
        """Load a single-file ONNX model. Raises LoadError, or OSError when the file cannot be read."""
        try:
            onnxfile.check(path)
        except onnxfile.NotOnnx as error:
            raise LoadError("NotOnnx", str(error)) from error
        except onnxfile.ExternalData as error:
            raise LoadError("ExternalData", f"{path.name}: {error}") from error
        try:
            session = onnxruntime.InferenceSession(
                str(path),
                sess_options=_options(threads or cgroup.threads()),
                providers=["CPUExecutionProvider"],
            )
        except Exception as error:
            raise LoadError(_load_reason(error), f"{path.name}: {_first_line(error)}") from error
        return cls(session, path)

    def run(
        self, inputs: Mapping[str, Array], outputs: Sequence[str], stop: Stop | None = None
    ) -> list[Array]:
        """Compute the named outputs. Raises RunError, Stopped, or MemoryError."""
        try:
            results: list[Array] = self._session.run(outputs, inputs, None if stop is None else stop.options)
        except Exception as error:
            if stop is not None and stop.options.terminate:
                raise Stopped("the run was stopped") from error
            if out_of_memory(error):
                raise MemoryError(_first_line(error)) from error
            raise RunError(_first_line(error)) from error
        return results

    def zeros(self) -> dict[str, Array]:
        """The smallest input of the signature: zeros, every free dimension 1."""
        return {spec.name: zeros(spec) for spec in self.inputs}


def signature_problem(engine: Engine, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> str:
    """What differs between the model and what was declared of it; empty when nothing does."""
    for what, declared, actual in (("input", inputs, engine.inputs), ("output", outputs, engine.outputs)):
        have, want = {spec.name: spec for spec in actual}, {spec.name: spec for spec in declared}
        if have.keys() != want.keys():
            return f"the model has the {what}s {sorted(have)}, declared are {sorted(want)}"
        for name, spec in want.items():
            if spec.datatype != have[name].datatype or not _same_shape(spec.shape, have[name].shape):
                return f"{what} {name!r} is {_typed(have[name])}, declared is {_typed(spec)}"
    return ""


def _same_shape(one: Sequence[int], other: Sequence[int]) -> bool:
    """A free dimension fits any size: shape inference may know an output better than the file says."""
    return len(one) == len(other) and all(a == b or a < 0 or b < 0 for a, b in zip(one, other, strict=True))


def _typed(spec: TensorSpec) -> str:
    return f"{spec.datatype} {list(spec.shape)}"


def zeros(spec: TensorSpec) -> Array:
    """A tensor of zeros (or empty strings), every free dimension 1."""
    shape = [1 if size < 0 else size for size in spec.shape]
    if spec.datatype == BYTES:
        return np.full(shape, "", dtype=object)
    return np.zeros(shape, dtype=NUMERIC[spec.datatype])


def out_of_memory(error: BaseException) -> bool:
    """Whether an error of ONNX Runtime says that memory ran out."""
    text = str(error)
    return isinstance(error, MemoryError) or "bad_alloc" in text or "Failed to allocate memory" in text


def timed(engine: Engine, inputs: Mapping[str, Array], times: int = 3) -> float:
    """Milliseconds of the quickest of a few runs, the first left out. Raises what `run` raises."""
    names = [spec.name for spec in engine.outputs]
    engine.run(inputs, names)
    best = float("inf")
    for _ in range(times):
        started = time.perf_counter()
        engine.run(inputs, names)
        best = min(best, (time.perf_counter() - started) * 1000)
    return best


def _options(threads: int) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.log_severity_level = _ERRORS_ONLY
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    return options


def _spec(node: Any, path: Path) -> TensorSpec:
    datatype = _DATATYPES.get(node.type)
    if datatype is None:
        raise LoadError(
            "UnsupportedModel",
            f"{path.name}: {node.name!r} is of type {node.type}, which the protocol cannot carry",
        )
    return TensorSpec(
        node.name, datatype, tuple(size if isinstance(size, int) else -1 for size in node.shape)
    )


def _load_reason(error: Exception) -> str:
    text = str(error)
    if out_of_memory(error):
        return "OutOfMemory"
    if "opset" in text.lower() or "IR version" in text or "ir_version" in text.lower():
        return "IncompatibleRuntime"
    return "LoadFailed"


def _first_line(error: BaseException) -> str:
    """ONNX Runtime's messages go on with stack traces and absolute paths of its build."""
    text = (str(error) or type(error).__name__).strip().splitlines()[0]
    return text if len(text) <= 500 else text[:497] + "..."
