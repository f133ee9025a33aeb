"""Small ONNX models, good and bad, made on the spot. Equal seeds give equal bytes."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

OPSET = 17
Array = NDArray[np.generic]


def save(
    path: Path,
    nodes: Sequence[onnx.NodeProto],
    inputs: Sequence[onnx.ValueInfoProto],
    outputs: Sequence[onnx.ValueInfoProto],
    weights: Mapping[str, Array] | None = None,
    opset: int = OPSET,
) -> Path:
    """Write a model of these parts."""
    graph = helper.make_graph(
        list(nodes),
        "graph",
        list(inputs),
        list(outputs),
        [numpy_helper.from_array(array, name) for name, array in (weights or {}).items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    onnx.save_model(model, path)
    return path


def floats(name: str, *shape: int | str) -> onnx.ValueInfoProto:
    """Describe a float32 input or output; a text is a free dimension."""
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, list(shape))


def classifier(path: Path, *, batch: int | str = "n", features: int = 16, seed: int = 0) -> Path:
    """Write a dense network of two layers with 4 classes; output `scores`."""
    rng = np.random.default_rng(seed)
    weights = {
        "w1": rng.normal(0, 0.5, (features, 32)).astype(np.float32),
        "b1": rng.normal(0, 0.1, 32).astype(np.float32),
        "w2": rng.normal(0, 0.5, (32, 4)).astype(np.float32),
    }
    nodes = [
        helper.make_node("MatMul", ["x", "w1"], ["h"]),
        helper.make_node("Add", ["h", "b1"], ["g"]),
        helper.make_node("Relu", ["g"], ["r"]),
        helper.make_node("MatMul", ["r", "w2"], ["scores"]),
    ]
    return save(path, nodes, [floats("x", batch, features)], [floats("scores", batch, 4)], weights)


def label_map(path: Path, *, size: int = 16, seed: int = 0) -> Path:
    """Write a convolutional network for one image at a time; output `labels`, uint8 (1, size-7, size-7)."""
    rng = np.random.default_rng(seed)
    weights = {
        "w1": rng.normal(0, 0.2, (12, 1, 8, 8)).astype(np.float32),
        "b1": rng.normal(0, 0.1, 12).astype(np.float32),
        "w2": rng.normal(0, 0.5, (5, 12, 1, 1)).astype(np.float32),
    }
    nodes = [
        helper.make_node("Conv", ["image", "w1", "b1"], ["h"]),
        helper.make_node("Relu", ["h"], ["r"]),
        helper.make_node("Conv", ["r", "w2"], ["s"]),
        helper.make_node("ArgMax", ["s"], ["a"], axis=1, keepdims=0),
        helper.make_node("Cast", ["a"], ["labels"], to=TensorProto.UINT8),
    ]
    out = helper.make_tensor_value_info("labels", TensorProto.UINT8, [1, size - 7, size - 7])
    return save(path, nodes, [floats("image", 1, 1, size, size)], [out], weights)


def golden(path: Path, seed: int = 1, **shapes: tuple[int, ...]) -> Path:
    """Write random golden inputs, one array for each name."""
    rng = np.random.default_rng(seed)
    arrays = {f"input/{name}": rng.normal(0, 1, shape).astype(np.float32) for name, shape in shapes.items()}
    np.savez(path, **arrays)  # type: ignore[arg-type]
    return path


def endless(path: Path) -> Path:
    """Write a model that loads and never ends: a Loop whose condition stays true."""
    flag = helper.make_tensor_value_info
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["go_in"], ["go_out"]),
            helper.make_node("Identity", ["v_in"], ["v_out"]),
        ],
        "body",
        [flag("at", TensorProto.INT64, []), flag("go_in", TensorProto.BOOL, []), floats("v_in", "n", 2)],
        [flag("go_out", TensorProto.BOOL, []), floats("v_out", "n", 2)],
    )
    nodes = [helper.make_node("Loop", ["", "go", "x"], ["y"], body=body)]
    return save(path, nodes, [floats("x", "n", 2)], [floats("y", "n", 2)], {"go": np.array(True)})


def greedy(path: Path) -> Path:
    """Write a model of a few bytes that asks for 256 GiB."""
    nodes = [
        helper.make_node("ConstantOfShape", ["shape"], ["big"]),
        helper.make_node("ReduceMax", ["big"], ["m"], axes=[1], keepdims=1),
        helper.make_node("Add", ["x", "m"], ["y"]),
    ]
    weights = {"shape": np.array([1, 2**36], dtype=np.int64)}
    return save(path, nodes, [floats("x", "n", 1)], [floats("y", "n", 1)], weights)


def external(path: Path) -> Path:
    """Write a model whose weights are in another file."""
    model = onnx.load(classifier(path))
    onnx.save_model(model, path, save_as_external_data=True, location=path.name + ".data", size_threshold=0)
    return path
