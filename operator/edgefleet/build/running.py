"""Runs a model over samples and measures it. Only in the worker."""

import resource
import time
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnxruntime

from edgefleet.build.errors import UnsupportedModel

_BATCH: Final = 32
_TIMED: Final = 50
"""Runs with one sample that the median is taken from."""


def session(path: Path) -> Any:
    """Load a model as the pod does: on the CPU, without telemetry."""
    onnxruntime.disable_telemetry_events()
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def run(model: Path, inputs: Path, outputs: Path) -> dict[str, float]:
    """Run all samples. `inputs` and `outputs` are folders of `<index>.npy`, one per input and output of the model.

    Returns `peakBytes` after one sample and `p50Ms` of one sample. Raises UnsupportedModel.
    """
    loaded = session(model)
    names = [item.name for item in loaded.get_inputs()]
    arrays = {name: np.load(inputs / f"{at}.npy", mmap_mode="r") for at, name in enumerate(names)}
    samples = len(next(iter(arrays.values())))
    first = _answers(loaded, arrays, 0, 1)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    times = []
    for at in range(min(samples, _TIMED)):
        begin = time.perf_counter()
        _answers(loaded, arrays, at, at + 1)
        times.append(time.perf_counter() - begin)
    step = 1 if any(item.shape[0] == 1 for item in (*loaded.get_inputs(), *loaded.get_outputs())) else _BATCH
    parts = [_answers(loaded, arrays, at, min(at + step, samples)) for at in range(0, samples, step)]
    for at in range(len(first)):
        try:
            whole = np.concatenate([part[at] for part in parts])
        except ValueError as error:
            raise UnsupportedModel(f"output {at} has another shape for other samples: {error}") from error
        np.save(outputs / f"{at}.npy", whole, allow_pickle=False)
    return {"peakBytes": peak, "p50Ms": round(float(np.median(times)) * 1000, 4)}


def _answers(loaded: Any, arrays: dict[str, Any], start: int, end: int) -> list[Any]:
    found = loaded.run(None, {name: np.ascontiguousarray(array[start:end]) for name, array in arrays.items()})
    for item, array in zip(loaded.get_outputs(), found, strict=True):
        if not isinstance(array, np.ndarray) or array.ndim == 0 or array.shape[0] != end - start:
            shape = getattr(array, "shape", "no tensor")
            raise UnsupportedModel(
                f"output {item.name!r} must have one entry a sample: {end - start} went in, {shape} came out"
            )
    return list(found)
