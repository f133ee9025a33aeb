"""From a float model to int8. Only in the worker."""

import logging
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
from onnxruntime import quantization
from onnxruntime.quantization.registry import IntegerOpsRegistry
from onnxruntime.quantization.shape_inference import quant_pre_process
from typing_extensions import override

from edgefleet.build import running
from edgefleet.build.errors import QuantizationFailed

STATIC: Final = "int8"
DYNAMIC: Final = "int8-dynamic"
_PER_CHANNEL_OPSET: Final = 13
_CALIBRATION_CAP: Final = 1000
"""Samples; more change minimum and maximum little and take long."""
_QUANTIZED: Final = frozenset({"QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear"})


class _Samples(quantization.CalibrationDataReader):  # type: ignore[misc]
    """Golden or calibration inputs, one by one."""

    def __init__(self, names: list[str], folder: Path) -> None:
        arrays = {name: np.load(folder / f"{at}.npy", mmap_mode="r") for at, name in enumerate(names)}
        count = min(len(next(iter(arrays.values()))), _CALIBRATION_CAP)
        self._left: Iterator[dict[str, Any]] = iter(
            [
                {name: np.ascontiguousarray(array[at : at + 1]) for name, array in arrays.items()}
                for at in range(count)
            ]
        )

    @override
    def get_next(self) -> dict[str, Any] | None:
        return next(self._left, None)


def quantize(model: Path, method: str, inputs: Path, result: Path) -> None:
    """Write a quantized model. Raises QuantizationFailed."""
    logging.disable(logging.WARNING)
    names = [item.name for item in running.session(model).get_inputs()]
    with tempfile.TemporaryDirectory() as folder:
        ready = _prepared(model, Path(folder))
        try:
            if method == STATIC:
                _static(ready, result, _Samples(names, inputs))
            elif method == DYNAMIC:
                _dynamic(ready, result)
            else:
                raise QuantizationFailed(f"unknown method {method!r}")
        except (ValueError, RuntimeError, KeyError, AttributeError, NotImplementedError) as error:
            raise QuantizationFailed(f"{method}: {type(error).__name__}: {str(error)[:1000]}") from error
    done = onnx.load_model(result, load_external_data=False)
    if not any(node.op_type in _QUANTIZED for node in done.graph.node):
        raise QuantizationFailed(
            f"{method} finds nothing to quantize in this model{'; try int8' if method == DYNAMIC else ''}"
        )


def _static(ready: Path, result: Path, samples: _Samples) -> None:
    quantization.quantize_static(
        ready,
        result,
        samples,
        quant_format=quantization.QuantFormat.QDQ,
        per_channel=True,
        activation_type=quantization.QuantType.QInt8,
        weight_type=quantization.QuantType.QInt8,
        calibrate_method=quantization.CalibrationMethod.MinMax,
    )


def _dynamic(ready: Path, result: Path) -> None:
    # the CPU has no kernel for a convolution with int8 weights quantized this way
    operators = [name for name in IntegerOpsRegistry if name != "Conv"]
    quantization.quantize_dynamic(
        ready, result, op_types_to_quantize=operators, weight_type=quantization.QuantType.QInt8
    )


def _prepared(model: Path, folder: Path) -> Path:
    """Infer shapes and fold constants, which quantization needs; bring old models to an opset it knows."""
    loaded = onnx.load_model(model, load_external_data=False)
    opset = next((item.version for item in loaded.opset_import if item.domain in ("", "ai.onnx")), 0)
    if opset < _PER_CHANNEL_OPSET:
        try:
            loaded = onnx.version_converter.convert_version(loaded, _PER_CHANNEL_OPSET)
        except Exception as error:
            raise QuantizationFailed(
                f"the model has opset {opset}; quantization needs {_PER_CHANNEL_OPSET}, and converting failed: {error}"
            ) from error
        model = folder / "converted.onnx"
        onnx.save_model(loaded, model)
    ready = folder / "ready.onnx"
    try:
        quant_pre_process(model, ready, skip_symbolic_shape=True)
    except Exception as error:
        raise QuantizationFailed(f"the model cannot be prepared: {type(error).__name__}: {error}") from error
    return ready
