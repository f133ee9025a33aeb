"""ONNX models for the pod's tests: honest ones, slow ones, and some that mean harm."""

from pathlib import Path
from typing import Final

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from support.models import floats, save

TYPES: Final = {
    "BOOL": TensorProto.BOOL,
    "UINT8": TensorProto.UINT8,
    "UINT16": TensorProto.UINT16,
    "UINT32": TensorProto.UINT32,
    "UINT64": TensorProto.UINT64,
    "INT8": TensorProto.INT8,
    "INT16": TensorProto.INT16,
    "INT32": TensorProto.INT32,
    "INT64": TensorProto.INT64,
    "FP16": TensorProto.FLOAT16,
    "FP32": TensorProto.FLOAT,
    "FP64": TensorProto.DOUBLE,
    "BYTES": TensorProto.STRING,
}


def value(name: str, datatype: str, *shape: int | str) -> onnx.ValueInfoProto:
    """Describe an input or output by the protocol's name of its type; a text is a free dimension."""
    return helper.make_tensor_value_info(name, TYPES[datatype], list(shape))


def linear(path: Path, *, seed: int = 0, noise: float = 0.0) -> Path:
    """`scores` (n, 10) = `x` (n, 64) times weights; `noise` bends the weights of that seed."""
    weights = np.random.default_rng(seed).normal(size=(64, 10))
    weights += np.random.default_rng(seed + 1).normal(size=(64, 10)) * noise
    node = helper.make_node("MatMul", ["x", "w"], ["scores"])
    return save(
        path, [node], [floats("x", "n", 64)], [floats("scores", "n", 10)], {"w": weights.astype(np.float32)}
    )


def echo(path: Path, *datatypes: str, rank: int = 1) -> Path:
    """One input `in_<type>` and one output `out_<type>` for each type; what goes in comes out."""
    shape = [f"d{axis}" for axis in range(rank)]
    nodes = [helper.make_node("Identity", [f"in_{name}"], [f"out_{name}"]) for name in datatypes]
    inputs = [value(f"in_{name}", name, *shape) for name in datatypes]
    return save(path, nodes, inputs, [value(f"out_{name}", name, *shape) for name in datatypes])


def locator(path: Path, *, seed: int = 0) -> Path:
    """A label map of an image of any size: `labels`, uint8. Too small an image (8x8 is the filter) cannot be run."""
    rng = np.random.default_rng(seed)
    weights = {
        "w1": rng.normal(0, 0.3, (6, 1, 8, 8)).astype(np.float32),
        "w2": rng.normal(0, 0.5, (4, 6, 1, 1)).astype(np.float32),
    }
    nodes = [
        helper.make_node("Conv", ["image", "w1"], ["h"]),
        helper.make_node("Relu", ["h"], ["r"]),
        helper.make_node("Conv", ["r", "w2"], ["s"]),
        helper.make_node("ArgMax", ["s"], ["a"], axis=1, keepdims=0),
        helper.make_node("Cast", ["a"], ["labels"], to=TensorProto.UINT8),
    ]
    return save(
        path, nodes, [floats("image", 1, 1, "h", "w")], [value("labels", "UINT8", 1, "oh", "ow")], weights
    )


def table(path: Path, *, rows: int = 8) -> Path:
    """`y` = row number `index` of a table; an index beyond it makes the model fail."""
    node = helper.make_node("Gather", ["t", "index"], ["y"])
    weights = {"t": np.arange(rows * 4, dtype=np.float32).reshape(rows, 4)}
    return save(path, [node], [value("index", "INT64", "n")], [floats("y", "n", 4)], weights)


def spinner(path: Path) -> Path:
    """`done` = `rounds` (INT64, scalar) turns of a loop: as slow as one asks it to be, up to for ever."""
    body = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["goes"]), helper.make_node("Add", ["sum", "one"], ["more"])],
        "body",
        [value("turn", "INT64"), value("go", "BOOL"), value("sum", "INT64")],
        [value("goes", "BOOL"), value("more", "INT64")],
        [numpy_helper.from_array(np.array(1, dtype=np.int64), "one")],
    )
    node = helper.make_node("Loop", ["rounds", "", "zero"], ["done"], body=body)
    weights = {"zero": np.array(0, dtype=np.int64)}
    return save(path, [node], [value("rounds", "INT64")], [value("done", "INT64")], weights)


def endless(path: Path) -> Path:
    """Never answers, whatever it is asked."""
    body = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["goes"]), helper.make_node("Identity", ["v"], ["w"])],
        "body",
        [value("turn", "INT64"), value("go", "BOOL"), value("v", "FP32", "n", 64)],
        [value("goes", "BOOL"), value("w", "FP32", "n", 64)],
    )
    weights = {"yes": np.array(True)}
    node = helper.make_node("Loop", ["", "yes", "x"], ["scores"], body=body)
    return save(path, [node], [floats("x", "n", 64)], [floats("scores", "n", 64)], weights)


def glutton(path: Path) -> Path:
    """Asks for 256 GiB when run."""
    nodes = [
        helper.make_node("ConstantOfShape", ["huge"], ["zeros"]),
        helper.make_node("ReduceSum", ["zeros"], ["sum"], keepdims=0),
        helper.make_node("Add", ["x", "sum"], ["scores"]),
    ]
    # The size comes in through an input, or it would be computed, and fail, at loading.
    inputs = [floats("x", "n", 64)]
    nodes.insert(0, helper.make_node("Shape", ["x"], ["s"]))
    nodes.insert(1, helper.make_node("Mul", ["s", "factor"], ["huge"]))
    weights = {"factor": np.array([1 << 30, 1], dtype=np.int64)}
    return save(path, nodes, inputs, [floats("scores", "n", 64)], weights)


def with_sequence(path: Path) -> Path:
    """A tensor `y`, and beside it a sequence, as scikit-learn's converter makes for probabilities."""
    nodes = [
        helper.make_node("Identity", ["x"], ["y"]),
        helper.make_node("SequenceConstruct", ["x"], ["list"]),
    ]
    sequence = helper.make_tensor_sequence_value_info("list", TensorProto.FLOAT, None)
    return save(path, nodes, [floats("x", "n")], [floats("y", "n"), sequence])


def with_external_data(folder: Path) -> Path:
    """A model whose weights are in a second file."""
    inside = onnx.load(linear(folder / "inside.onnx"))
    path = folder / "model.onnx"
    onnx.save_model(inside, path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    return path


def from_the_future(path: Path) -> Path:
    """Uses operator set 9999."""
    node = helper.make_node("Identity", ["x"], ["y"])
    return save(path, [node], [floats("x", "n")], [floats("y", "n")], opset=9999)


def pair(path: Path) -> Path:
    """The model of docs/protocols.md: `y` is twice the `x` of two numbers."""
    node = helper.make_node("Add", ["x", "x"], ["labels"])
    return save(path, [node], [floats("x", "n", 2)], [floats("labels", "n", 2)])


def finder(path: Path) -> Path:
    """`where` (INT64): places of the values that are not zero; possibly none."""
    node = helper.make_node("NonZero", ["x"], ["where"])
    return save(path, [node], [floats("x", "n")], [value("where", "INT64", 1, "k")])
