"""The demo's model: finds handwritten digits on a canvas. Trained on the spot, in a second or two.

A scikit-learn MLP learns 8x8 patches. Its two layers are then written as convolutions, so that the same
weights look at every position of a canvas at once: Conv 8x8, Relu, Conv 1x1, ArgMax, a map of labels.
"""

import dataclasses
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier

CANVAS: Final = 96
"""Pixels on a side, one byte each: what a small camera crops."""
PATCH: Final = 8
MAP: Final = CANVAS - PATCH + 1
BACKGROUND: Final = 0
"""Label of a place without a digit; digit n has label n + 1."""
FULL_SCALE: Final = 160
"""Byte value of black ink: scikit-learn's digits run from 0 to 16, the canvas in tenths of that."""
NIGHT_OFFSET: Final = 90
"""What a canvas taken at night has on top of every pixel. None of the golden ones is."""
TRAINED_ON: Final = 1400
"""Digits the model learns from; the others draw the canvases."""

Images = NDArray[np.uint8]
Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Weights:
    """A trained locator: patches to hidden units to labels."""

    hidden: Floats
    """(units, 64)"""
    hidden_bias: Floats
    out: Floats
    """(11, units)"""
    out_bias: Floats


# -- learning ---------------------------------------------------------------------------------------


def _not_a_digit(rng: np.random.Generator, patches: Floats, count: int) -> Floats:
    """Patches that see a part of a digit only, and nearly empty ones."""
    found = []
    for _ in range(count):
        padded = np.zeros((3 * PATCH, 3 * PATCH), np.float32)
        padded[PATCH : 2 * PATCH, PATCH : 2 * PATCH] = patches[rng.integers(TRAINED_ON)]
        far, any_way = rng.choice([-1, 1]) * rng.integers(4, PATCH), rng.integers(-PATCH + 1, PATCH)
        y, x = (far, any_way) if rng.random() < 0.5 else (any_way, far)
        found.append(padded[PATCH + y : 2 * PATCH + y, PATCH + x : 2 * PATCH + x])
    empty = rng.random((count // 4, PATCH, PATCH), dtype=np.float32) * 0.1
    return np.concatenate([np.array(found), empty])


def _moved(rng: np.random.Generator, patches: Floats) -> Floats:
    """The same digits a pixel off, so that a digit is seen from its neighbouring places too."""
    moved = np.zeros_like(patches)
    for index, patch in enumerate(patches):
        y, x = rng.integers(-1, 2, 2)
        moved[index] = np.roll(patch, (y, x), (0, 1))
    return moved


def train(units: int, seed: int) -> Weights:
    """Learn the digits with `units` hidden units. Equal arguments give equal weights."""
    digits = load_digits()
    patches = (digits.images / 16.0).astype(np.float32)
    rng = np.random.default_rng(seed)
    known, labels = patches[:TRAINED_ON], digits.target[:TRAINED_ON] + 1
    nothing = _not_a_digit(rng, patches, TRAINED_ON)
    inputs = np.concatenate([known, _moved(rng, known), nothing]).reshape(-1, PATCH * PATCH)
    answers = np.concatenate([labels, labels, np.full(len(nothing), BACKGROUND)])
    network = MLPClassifier((units,), max_iter=80, tol=0.0, n_iter_no_change=80, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # a second of training is all it gets
        network.fit(inputs, answers)
    first, second = network.coefs_
    return Weights(
        first.T.astype(np.float32),
        network.intercepts_[0].astype(np.float32),
        second.T.astype(np.float32),
        network.intercepts_[1].astype(np.float32),
    )


def in_mixed_units(weights: Weights, factor: float = 20_000.0) -> Weights:
    """The same function, with every fourth hidden unit `factor` times as large and its output weights as small.

    Nothing changes in floating point. Eight bits have one scale for all hidden units of the layer, so
    there the other units vanish: what happens to a real network whose features were never normalised.
    """
    scale = np.ones(len(weights.hidden), np.float32)
    scale[::4] = factor
    return dataclasses.replace(
        weights,
        hidden=weights.hidden * scale[:, None],
        hidden_bias=weights.hidden_bias * scale,
        out=weights.out / scale[None, :],
    )


# -- writing ONNX -----------------------------------------------------------------------------------


def to_onnx(weights: Weights, *, exposure_table: bool = False) -> onnx.ModelProto:
    """Write the locator as ONNX: `image` uint8 (n, 1, 96, 96) in, `labels` uint8 (n, 89, 89) out.

    With `exposure_table` every canvas is first brightened by a factor looked up by its mean grey. The table
    has no entry for means that its author never saw, and ONNX Runtime refuses such a lookup.
    """
    units = len(weights.hidden)
    constants = {
        "full_scale": np.array(FULL_SCALE, np.float32),
        "hidden_weight": weights.hidden.reshape(units, 1, PATCH, PATCH),
        "hidden_bias": weights.hidden_bias,
        "out_weight": weights.out.reshape(-1, units, 1, 1),
        "out_bias": weights.out_bias,
    }
    nodes = [
        helper.make_node("Cast", ["image"], ["bytes"], to=TensorProto.FLOAT),
        helper.make_node("Div", ["bytes", "full_scale"], ["scaled"]),
        helper.make_node("Conv", ["exposed", "hidden_weight", "hidden_bias"], ["features"]),
        helper.make_node("Relu", ["features"], ["active"]),
        helper.make_node("Conv", ["active", "out_weight", "out_bias"], ["scores"]),
        helper.make_node("ArgMax", ["scores"], ["index"], axis=1, keepdims=0),
        helper.make_node("Cast", ["index"], ["labels"], to=TensorProto.UINT8),
    ]
    if exposure_table:
        constants["axes"] = np.array([1, 2, 3], np.int64)
        constants["table"] = np.ones(64, np.float32)
        nodes[2:2] = [
            helper.make_node("Cast", ["image"], ["whole"], to=TensorProto.INT32),
            helper.make_node("ReduceMean", ["whole", "axes"], ["grey"], keepdims=1),
            helper.make_node("Gather", ["table", "grey"], ["exposure"], axis=0),
            helper.make_node("Mul", ["scaled", "exposure"], ["exposed"]),
        ]
    else:
        nodes[2:2] = [helper.make_node("Identity", ["scaled"], ["exposed"])]
    graph = helper.make_graph(
        nodes,
        "digit-locator",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, ["n", 1, CANVAS, CANVAS])],
        [helper.make_tensor_value_info("labels", TensorProto.UINT8, ["n", MAP, MAP])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    onnx.checker.check_model(model, full_check=True)
    return model


# -- images -----------------------------------------------------------------------------------------


def canvases(count: int, seed: int) -> Images:
    """Draw `count` canvases of 36 digits each, none of which the model learnt from: (count, 1, 96, 96)."""
    digits = load_digits().images[TRAINED_ON:]
    rng = np.random.default_rng(seed)
    drawn = np.zeros((count, 1, CANVAS, CANVAS), np.uint8)
    cell = CANVAS // 6
    for canvas in drawn[:, 0]:
        for place in range(36):
            y = place // 6 * cell + int(rng.integers(cell - PATCH))
            x = place % 6 * cell + int(rng.integers(cell - PATCH))
            canvas[y : y + PATCH, x : x + PATCH] = digits[rng.integers(len(digits))] * 10
    return drawn


def at_night(images: Images) -> Images:
    """The same canvases in artificial light: every pixel brighter, which the golden set has none of."""
    return np.clip(images.astype(np.int16) + NIGHT_OFFSET, 0, 255).astype(np.uint8)


# -- the four models of the story ---------------------------------------------------------------------


def models() -> dict[str, onnx.ModelProto]:
    """v1 and v2 are good, v3 does not survive eight bits, v4 fails on canvases taken at night."""
    small, large = train(units=16, seed=1), train(units=32, seed=2)
    return {
        "v1": to_onnx(small),
        "v2": to_onnx(large),
        "v3": to_onnx(in_mixed_units(large)),
        "v4": to_onnx(train(units=32, seed=4), exposure_table=True),
    }


def write(folder: Path) -> None:
    """Write `v1.onnx` … `v4.onnx`, `golden.npz` and `traffic.npz` into the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, model in models().items():
        (folder / f"{name}.onnx").write_bytes(model.SerializeToString())
    # No labels: nearly all of a canvas is background, and a model that finds nothing would score best.
    golden: dict[str, Any] = {"input/image": canvases(16, seed=11)}
    np.savez_compressed(folder / "golden.npz", **golden)
    day = canvases(8, seed=12)
    np.savez_compressed(folder / "traffic.npz", images=np.concatenate([day, at_night(day)]))
