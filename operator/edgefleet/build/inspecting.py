"""Looks into an ONNX file: is it one, is it whole, what goes in and out. Only in the worker."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import onnx
import onnxruntime

from edgefleet.build import running
from edgefleet.build.errors import ExternalData, NotOnnx, UnsupportedModel

_FILE_CAP: Final = 2**31 - 1
DATATYPES: Final = {
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
}
"""ONNX Runtime's name of a type → the Open Inference Protocol's."""


def inspect(path: Path) -> dict[str, Any]:
    """Check a model file; return `inputs`, `outputs` (name, datatype, shape), and the versions of the tools.

    Raises NotOnnx, ExternalData, UnsupportedModel.
    """
    model = _parse(path)
    for tensor in _tensors(model):
        if tensor.data_location == onnx.TensorProto.EXTERNAL or tensor.external_data:
            raise ExternalData(
                f"the weights {tensor.name!r} are in another file; save the model as one file "
                "(onnx.save(model, path, save_as_external_data=False))"
            )
    try:
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise NotOnnx(f"the ONNX checker refuses the model: {str(error)[:1000]}") from error
    try:
        session = running.session(path)
    except Exception as error:
        raise UnsupportedModel(f"ONNX Runtime cannot load the model: {str(error)[:1000]}") from error
    return {
        "inputs": [_tensor(item, "input") for item in session.get_inputs()],
        "outputs": [_tensor(item, "output") for item in session.get_outputs()],
        "tools": {"onnx": onnx.__version__, "onnxruntime": onnxruntime.__version__},
    }


def _parse(path: Path) -> onnx.ModelProto:
    size = path.stat().st_size
    if size == 0:
        raise NotOnnx("the file is empty")
    if size > _FILE_CAP:
        raise NotOnnx(f"the file has {size} bytes; an ONNX file has 2 GiB at most")
    with path.open("rb") as file:
        head = file.read(64)
    try:
        model = onnx.load_model(path, format="protobuf", load_external_data=False)
    except Exception as error:
        raise NotOnnx(f"not an ONNX file{_looks_like(head)}: {error}") from error
    # protobuf takes many a byte string for a message full of unknown fields
    if model.ir_version < 1 or not model.opset_import or not model.graph.node:
        raise NotOnnx(f"not an ONNX file{_looks_like(head)}: it holds no graph")
    return model


def _looks_like(head: bytes) -> str:
    start = head.lstrip().lower()
    for mark, what in (
        (b"<", "a web page"),
        (b"version https://git-lfs", "a Git LFS pointer: run git lfs pull"),
        (b"\x1f\x8b", "gzip"),
        (b"pk\x03\x04", "a zip file"),
    ):
        if start.startswith(mark):
            return f" but {what}"
    return ""


def _tensors(model: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    yield from _graph_tensors(model.graph)
    for training in model.training_info:
        yield from _graph_tensors(training.initialization)
        yield from _graph_tensors(training.algorithm)
    for function in model.functions:
        yield from _node_tensors(function.node)
        yield from _attribute_tensors(function.attribute_proto)


def _graph_tensors(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield sparse.values
        yield sparse.indices
    yield from _node_tensors(graph.node)


def _node_tensors(nodes: Any) -> Iterator[onnx.TensorProto]:
    for node in nodes:
        yield from _attribute_tensors(node.attribute)


def _attribute_tensors(attributes: Any) -> Iterator[onnx.TensorProto]:
    for attribute in attributes:
        yield attribute.t
        yield from attribute.tensors
        for sparse in (attribute.sparse_tensor, *attribute.sparse_tensors):
            yield sparse.values
            yield sparse.indices
        for graph in (attribute.g, *attribute.graphs):
            yield from _graph_tensors(graph)


def _tensor(item: Any, what: str) -> dict[str, Any]:
    if item.type not in DATATYPES:
        raise UnsupportedModel(f"{what} {item.name!r} is a {item.type}; supported are {', '.join(DATATYPES)}")
    shape = [size if isinstance(size, int) and size >= 0 else -1 for size in item.shape]
    if not shape or shape[0] not in (-1, 1):
        raise UnsupportedModel(
            f"the first dimension of {what} {item.name!r} must be the sample, free or 1; its shape is {shape}"
        )
    return {"name": item.name, "datatype": DATATYPES[item.type], "shape": shape}
