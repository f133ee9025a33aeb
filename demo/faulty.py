"""Models that pass their self-test and fail in use: what the tests of faults and `bench/rollback.py` roll out.

Each is the story's good locator with one more branch, the kind of mistake that real models have: it is only taken for
a canvas taken at night, which the golden set has none of. No switch in the product makes them fail.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from demo.models import to_onnx, train

DARK: Final = 64
"""Mean grey above which a canvas was taken at night: artificial light adds 90, and by day none comes near it."""
LOOPS: Final = 300
"""Runs of the slow model's loop, about half a millisecond each."""
BOXES: Final = 400_000
"""Boxes of the hanging model: it compares each with each in one operator, which takes many minutes and cannot be stopped."""
MEMORY: Final = 200_000_000
"""Floats the greedy model asks for: 800 MB, several times the limit of its pod."""

Nodes = list[Any]
Part = tuple[Nodes, dict[str, Any]]
"""Nodes that turn `night` (int32, 0 or 1) and `grey` (int32) into `fault` (uint8), and their constants."""


def _node(kind: str, inputs: list[str], output: str, **attributes: Any) -> Any:
    return helper.make_node(kind, inputs, [output], name=f"fault/{output}", **attributes)


def _error() -> Part:
    """A table without an entry for what its author never saw."""
    nodes = [_node("Gather", ["table", "night"], "fault")]
    return nodes, {"table": np.zeros(1, np.uint8)}


def _disagree() -> Part:
    """Every label one too high."""
    return [_node("Cast", ["night"], "fault", to=TensorProto.UINT8)], {}


def _crash() -> Part:
    """The smallest whole number divided by -1: a quotient that does not exist, and that x86 processors answer with a trap."""
    nodes = [
        _node("Mul", ["night", "smallest"], "dividend"),
        _node("Div", ["dividend", "minus_one"], "quotient"),
        _node("Mul", ["quotient", "zero"], "nothing"),
        _node("Cast", ["nothing"], "fault", to=TensorProto.UINT8),
    ]
    return nodes, {"smallest": np.array(-(2**31), np.int32), "minus_one": np.array(-1, np.int32)}


def _crash_at_start() -> Part:
    """The same for a black canvas, which a pod runs to warm up and a self-test with a golden set does not."""
    nodes, constants = _crash()
    black = [
        _node("Equal", ["grey", "zero"], "is_black"),
        _node("Cast", ["is_black"], "black", to=TensorProto.INT32),
    ]
    nodes[0] = _node("Mul", ["black", "smallest"], "dividend")
    return black + nodes, constants


def _oom() -> Part:
    """An intermediate tensor whose size depends on the input."""
    nodes = [
        _node("Cast", ["night"], "night64", to=TensorProto.INT64),
        _node("Mul", ["night64", "memory"], "floats"),
        _node("Unsqueeze", ["floats", "first"], "shape"),
        _node("ConstantOfShape", ["shape"], "zeros"),
        _node("ReduceSum", ["zeros"], "sum", keepdims=0),
        _node("Cast", ["sum"], "fault", to=TensorProto.UINT8),
    ]
    return nodes, {"memory": np.array(MEMORY, np.int64), "first": np.array([0], np.int64)}


def _slow() -> Part:
    """A loop whose length depends on the input."""
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["going"], ["goes_on"]),
            helper.make_node("MatMul", ["before", "matrix"], ["after"]),
        ],
        "loop",
        [
            helper.make_tensor_value_info("number", TensorProto.INT64, []),
            helper.make_tensor_value_info("going", TensorProto.BOOL, []),
            helper.make_tensor_value_info("before", TensorProto.FLOAT, [256, 256]),
        ],
        [
            helper.make_tensor_value_info("goes_on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("after", TensorProto.FLOAT, [256, 256]),
        ],
    )
    nodes = [
        _node("Cast", ["night"], "night64", to=TensorProto.INT64),
        _node("Mul", ["night64", "loops"], "times"),
        _node("Loop", ["times", "", "start"], "product", body=body),
        _node("ReduceSum", ["product"], "sum", keepdims=0),
        _node("Cast", ["sum"], "fault", to=TensorProto.UINT8),
    ]
    square = np.zeros((256, 256), np.float32)
    return nodes, {"loops": np.array(LOOPS, np.int64), "start": square, "matrix": square}


def _hang() -> Part:
    """Non-maximum suppression over boxes none of which overlap: a square of their number, in one operator."""
    nodes = [
        _node("Mul", ["night", "boxes"], "count"),
        _node("Range", ["zero", "count", "one"], "numbers"),
        _node("Cast", ["numbers"], "places", to=TensorProto.FLOAT),
        _node("Unsqueeze", ["places", "corners_at"], "column"),
        _node("Add", ["column", "corners"], "corner_list"),
        _node("Unsqueeze", ["places", "batch_and_class"], "ranks"),
        _node("NonMaxSuppression", ["corner_list", "ranks", "most", "overlap"], "chosen"),
        _node("Size", ["chosen"], "size"),
        _node("Mul", ["size", "zero64"], "nothing"),
        _node("Cast", ["nothing"], "fault", to=TensorProto.UINT8),
    ]
    constants = {
        "boxes": np.array(BOXES, np.int32),
        "one": np.array(1, np.int32),
        "corners_at": np.array([0, 2], np.int64),
        "corners": np.array([[[0.0, 0.0, 0.4, 0.4]]], np.float32),
        "batch_and_class": np.array([0, 1], np.int64),
        "most": np.array([BOXES], np.int64),
        "overlap": np.array([0.5], np.float32),
        "zero64": np.array(0, np.int64),
    }
    return nodes, constants


FAULTS: Final[Mapping[str, Callable[[], Part]]] = {
    "errors": _error,
    "latency": _slow,
    "agreement": _disagree,
    "crash": _crash,
    "crash-at-start": _crash_at_start,
    "oom": _oom,
    "hang": _hang,
}


def model(fault: str) -> onnx.ModelProto:
    """The story's second model with one of FAULTS."""
    made = to_onnx(train(units=32, seed=2))
    nodes, constants = FAULTS[fault]()
    constants |= {"every_axis": np.array([0, 1, 2, 3], np.int64), "dark": np.array(DARK, np.int32)}
    constants["zero"] = np.array(0, np.int32)
    graph = made.graph
    labels = graph.node[-1]
    labels.output[0] = "healthy"
    graph.node.extend(
        [
            _node("Cast", ["image"], "pixels", to=TensorProto.INT32),
            _node("ReduceMean", ["pixels", "every_axis"], "grey", keepdims=0),
            _node("Greater", ["grey", "dark"], "is_night"),
            _node("Cast", ["is_night"], "night", to=TensorProto.INT32),
            *nodes,
            _node("Add", ["healthy", "fault"], "labels"),
        ]
    )
    graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in constants.items())
    onnx.checker.check_model(made, full_check=True)
    return made


def write(folder: Path) -> None:
    """Write `<fault>.onnx` for all of FAULTS into the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in FAULTS:
        (folder / f"{name}.onnx").write_bytes(model(name).SerializeToString())
