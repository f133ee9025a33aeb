"""From model to bundle on real ONNX Runtime, each model in its own limited process."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from edgefleet.build import inspecting, making, pushing
from edgefleet.build.errors import AccuracyGate, BuildError
from edgefleet.build.packing import Packed
from edgefleet.build.sandbox import Limits
from edgefleet.bundle.layout import Layout
from edgefleet.bundle.pull import examine
from onnx import helper
from support import models
from support.bundles import ALICE


def request(model: Path, data: Path, *methods: str, **more: object) -> making.Request:
    """A request with patience for a busy machine."""
    return making.Request(model, "demo", 1, data, methods or ("none",), **{"max_drop": 1.0, **more})  # type: ignore[arg-type]


def build(folder: Path, asked: making.Request) -> Packed:
    out = folder / "out"
    out.mkdir()
    return making.make(asked, out, ALICE.signer)


async def test_a_classifier_becomes_a_signed_bundle_with_its_variants_in_the_order_asked_for(
    tmp_path: Path,
) -> None:
    model = models.classifier(tmp_path / "m.onnx", features=64)
    data = models.golden(tmp_path / "g.npz", x=(200, 64))
    made = build(tmp_path, request(model, data, "int8", "int8-dynamic", "none", max_drop=0.2))
    config = made.config
    assert [variant.name for variant in config.variants] == ["int8", "int8-dynamic", "fp32"]
    assert (config.golden.metric, config.golden.samples) == ("top1", 200)
    assert [(t.name, t.datatype, t.shape) for t in config.inputs] == [("x", "FP32", (-1, 64))]
    assert config.report.measured_by == "agreement"
    for variant in config.variants[:2]:
        assert 0.8 <= variant.agreement < 1.0
        assert variant.file.size < config.variants[2].file.size
    assert config.variants[2].agreement == 1.0
    assert made.files[config.variants[2].file.digest].read_bytes() == model.read_bytes()

    pushing.write_layout(made, tmp_path / "layout")
    layout = Layout(tmp_path / "layout")
    assert (await examine(layout, layout.reference(), ALICE.trust)).info.digest == made.digest


def test_an_image_model_of_one_sample_at_a_time_with_a_label_map_is_quantized_and_measured(
    tmp_path: Path,
) -> None:
    model = models.label_map(tmp_path / "m.onnx")
    data = models.golden(tmp_path / "g.npz", image=(12, 1, 16, 16))
    made = build(tmp_path, request(model, data, "int8"))
    assert made.config.golden.metric == "equal"
    assert [(t.name, t.datatype, t.shape) for t in made.config.outputs] == [("labels", "UINT8", (1, 9, 9))]
    assert 0.9 <= made.config.variants[0].agreement <= 1.0
    quantized = onnx.load(made.files[made.config.variants[0].file.digest])
    assert "QuantizeLinear" in {node.op_type for node in quantized.graph.node}


def test_the_golden_set_that_travels_holds_the_float_models_answers(tmp_path: Path) -> None:
    model = models.classifier(tmp_path / "m.onnx")
    data = models.golden(tmp_path / "g.npz", x=(70, 16))
    made = build(tmp_path, request(model, data))
    with np.load(made.files[made.config.golden.file.digest]) as travelling, np.load(data) as given:
        weights = {item.name: onnx.numpy_helper.to_array(item) for item in onnx.load(model).graph.initializer}
        hidden = np.maximum(given["input/x"] @ weights["w1"] + weights["b1"], 0)
        np.testing.assert_allclose(
            travelling["expected/scores"], hidden @ weights["w2"], rtol=1e-4, atol=1e-5
        )


def test_with_labels_the_gate_measures_accuracy(tmp_path: Path) -> None:
    model = models.classifier(tmp_path / "m.onnx")
    data = models.golden(tmp_path / "g.npz", x=(64, 16))
    answers = build(tmp_path, request(model, data))
    with np.load(answers.files[answers.config.golden.file.digest]) as truth:
        right = truth["expected/scores"].argmax(axis=1)
        wrong = np.where(np.arange(64) < 16, (right + 1) % 4, right)
        np.savez(tmp_path / "labelled.npz", **{"input/x": truth["input/x"], "label/scores": wrong})
    (tmp_path / "again").mkdir()
    made = build(tmp_path / "again", request(model, tmp_path / "labelled.npz"))
    assert made.config.report.measured_by == "labels"
    assert made.config.report.before.accuracy == 0.75
    assert made.config.variants[0].accuracy == 0.75


def test_a_variant_that_loses_too_much_is_refused_with_the_table(tmp_path: Path) -> None:
    """Calibrated on tiny inputs, the quantized model clips everything that is real."""
    model = models.classifier(tmp_path / "m.onnx")
    data = models.golden(tmp_path / "g.npz", x=(200, 16))
    np.savez(tmp_path / "tiny.npz", x=np.full((4, 16), 1e-3, np.float32))
    with pytest.raises(AccuracyGate, match=r"int8 loses \d+\.\d+%; allowed are 1\.00%") as caught:
        build(tmp_path, request(model, data, "int8", max_drop=0.01, calibration=tmp_path / "tiny.npz"))
    table = caught.value.report
    assert table.before.agreement == 1.0
    assert table.after[0].drop > 0.01


def truncated(path: Path) -> Path:
    models.classifier(path).write_bytes(path.read_bytes()[:-7])
    return path


Make = Callable[[Path], Path]


def written(data: bytes) -> Make:
    def write(path: Path) -> Path:
        path.write_bytes(data)
        return path

    return write


def unknown_operator(path: Path) -> Path:
    nodes = [helper.make_node("Frobnicate", ["x"], ["y"])]
    return models.save(path, nodes, [models.floats("x", "n", 2)], [models.floats("y", "n", 2)])


def newer_opset(path: Path) -> Path:
    nodes = [helper.make_node("Relu", ["x"], ["y"])]
    return models.save(path, nodes, [models.floats("x", "n", 2)], [models.floats("y", "n", 2)], opset=9999)


def answers_nan(path: Path) -> Path:
    nodes = [helper.make_node("Add", ["x", "w"], ["y"])]
    weights = {"w": np.array([np.nan, 1], np.float32)}
    return models.save(path, nodes, [models.floats("x", "n", 2)], [models.floats("y", "n", 2)], weights)


def batch_of_eight(path: Path) -> Path:
    nodes = [helper.make_node("Relu", ["x"], ["y"])]
    return models.save(path, nodes, [models.floats("x", 8, 2)], [models.floats("y", 8, 2)])


def two_answers_each(path: Path) -> Path:
    nodes = [helper.make_node("Concat", ["x", "x"], ["y"], axis=0)]
    return models.save(path, nodes, [models.floats("x", "n", 2)], [models.floats("y", "m", 2)])


@pytest.mark.parametrize(
    ("make", "reason", "says"),
    [
        pytest.param(written(b""), "NotOnnx", "empty", id="empty"),
        pytest.param(written(b"<!doctype html><title>404"), "NotOnnx", "web page", id="web-page"),
        pytest.param(written(b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n"), "NotOnnx", "git lfs pull", id="lfs-pointer"),
        pytest.param(written(b"\x1f\x8b\x08\x00" + bytes(100)), "NotOnnx", "gzip", id="gzip"),
        pytest.param(written(np.random.default_rng(7).bytes(100_000)), "NotOnnx", "not an ONNX file", id="random"),
        pytest.param(truncated, "NotOnnx", "not an ONNX file", id="truncated"),
        pytest.param(unknown_operator, "NotOnnx", "Frobnicate", id="unknown-operator"),
        pytest.param(newer_opset, "NotOnnx|UnsupportedModel", "9999|Opset|opset", id="opset-9999"),
        pytest.param(models.external, "ExternalData", "another file", id="weights-elsewhere"),
        pytest.param(batch_of_eight, "UnsupportedModel", "first dimension", id="batch-of-eight"),
    ],
)  # fmt: skip
def test_a_file_that_is_no_model_for_us_is_refused_at_a_look(
    make: Make, reason: str, says: str, tmp_path: Path
) -> None:
    with pytest.raises(BuildError, match=says) as caught:
        inspecting.inspect(make(tmp_path / "m.onnx"))
    assert caught.value.reason in reason.split("|")


@pytest.mark.parametrize(
    ("make", "width", "reason", "says"),
    [
        pytest.param(written(b"no model"), 2, "NotOnnx", "not an ONNX file", id="no-model"),
        pytest.param(models.endless, 2, "ModelTimedOut", "endless loop", id="endless-loop"),
        pytest.param(models.greedy, 1, "ModelOutOfMemory", "memory|alloc", id="asks-for-256-GiB"),
        pytest.param(answers_nan, 2, "GoldenInvalid", "NaN", id="answers-nan"),
        pytest.param(
            two_answers_each, 2, "UnsupportedModel", "one entry a sample", id="two-answers-a-sample"
        ),
    ],
)
def test_a_model_that_misbehaves_is_stopped_and_refused_with_a_reason(
    make: Make, width: int, reason: str, says: str, tmp_path: Path
) -> None:
    data = models.golden(tmp_path / "g.npz", x=(40, width))
    limits = Limits(seconds=6 if make is models.endless else 60, memory_bytes=4 << 30)
    with pytest.raises(BuildError, match=says) as caught:
        build(tmp_path, request(make(tmp_path / "m.onnx"), data, limits=limits))
    assert caught.value.reason == reason


def test_a_model_with_nothing_to_quantize_is_told_so(tmp_path: Path) -> None:
    nodes = [helper.make_node("Neg", ["x"], ["y"])]
    model = models.save(
        tmp_path / "m.onnx", nodes, [models.floats("x", "n", 2)], [models.floats("y", "n", 2)]
    )
    data = models.golden(tmp_path / "g.npz", x=(4, 2))
    with pytest.raises(BuildError, match="nothing to quantize") as caught:
        build(tmp_path, request(model, data, "int8-dynamic"))
    assert caught.value.reason == "QuantizationFailed"


def test_an_old_opset_is_brought_up_before_quantizing(tmp_path: Path) -> None:
    weights = {"w": np.random.default_rng(0).normal(size=(8, 4)).astype(np.float32)}
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"])]
    model = models.save(
        tmp_path / "m.onnx",
        nodes,
        [models.floats("x", "n", 8)],
        [models.floats("y", "n", 4)],
        weights,
        opset=11,
    )
    data = models.golden(tmp_path / "g.npz", x=(50, 8))
    assert build(tmp_path, request(model, data, "int8")).config.variants[0].agreement > 0.8


def test_the_callers_process_never_parses_a_model() -> None:
    code = "import sys; from edgefleet.build import making, pushing, signing; print(sorted({'onnx','onnxruntime'} & set(sys.modules)))"
    found = subprocess.run([sys.executable, "-c", code], text=True, capture_output=True, timeout=60)
    assert found.stdout.strip() == "[]", found.stderr
