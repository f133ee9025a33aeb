"""`edgepod selftest` as a process: what passes, what fails and why, and what is nobody's fault."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from edgepod import trial
from edgepod.contract import SelfTestReport, TensorSpec
from edgepod.selftest import Job
from support import onnx_models, pods
from support.pods import Site

X = np.random.default_rng(3).normal(size=(40, 64)).astype(np.float32)
INPUTS = (TensorSpec("x", "FP32", (-1, 64)),)
OUTPUTS = (TensorSpec("scores", "FP32", (-1, 10)),)


@pytest.fixture
def site() -> Iterator[Site]:
    with pods.site() as here:
        yield here


@dataclass
class Outcome:
    status: int
    report: SelfTestReport
    error: str


def selftest(*arguments: object) -> Outcome:
    command = [sys.executable, "-m", "edgepod", "selftest", *(str(argument) for argument in arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    lines = done.stdout.splitlines()
    assert lines, done.stderr
    return Outcome(done.returncode, SelfTestReport.from_json(lines[-1]), done.stderr)


def examine(model: Path, golden: Path | None = None, **more: Any) -> SelfTestReport:
    """What the child does, without a child: for models that mean no harm."""
    return trial.test(
        Job(
            model=str(model),
            min_agreement=0.95,
            memory_bytes=0,
            cpu_seconds=0,
            golden=golden and str(golden),
            **more,
        )
    )


def answers(model: Path) -> np.ndarray:
    session = onnxruntime.InferenceSession(str(model), providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"x": X})[0])


def golden(model: Path) -> dict[str, np.ndarray]:
    return {"input/x": X, "expected/scores": answers(model)}


def test_a_model_that_does_what_it_did_passes_with_figures(tmp_path: Path, site: Site) -> None:
    model = onnx_models.linear(tmp_path / "m.onnx")
    labels = {"label/scores": answers(model).argmax(axis=1)}
    serving = site.serving(model, INPUTS, OUTPUTS, golden=golden(model) | labels)
    done = selftest(*site.arguments(serving, tmp_path / "cache"), "--min-agreement", "0.95")
    assert done.status == 0, done
    assert done.report.passed
    assert (done.report.samples, done.report.agreement, done.report.accuracy) == (40, 1.0, 1.0)
    assert 0 < done.report.p50_ms <= done.report.p99_ms
    assert done.report.load_ms > 0
    assert 20 < done.report.peak_mib < 400


def test_a_model_that_answers_otherwise_fails_by_the_metric(tmp_path: Path, site: Site) -> None:
    honest, bent = onnx_models.linear(tmp_path / "m.onnx"), onnx_models.linear(tmp_path / "b.onnx", noise=3)
    serving = site.serving(bent, INPUTS, OUTPUTS, golden=golden(honest))
    done = selftest(*site.arguments(serving, tmp_path / "cache"))
    assert done.status == 1
    assert done.report.reason == "GoldenDisagrees"
    assert "'scores' agrees with the float model on" in done.report.message
    expected = np.mean(answers(bent).argmax(axis=1) == answers(honest).argmax(axis=1))
    assert done.report.agreement == pytest.approx(expected, abs=1e-5)
    assert done.report.agreement < 0.95
    lenient = selftest(*site.arguments(serving, tmp_path / "cache"), "--min-agreement", "0.01")
    assert lenient.status == 0


def test_a_label_map_is_compared_pixel_by_pixel_and_its_samples_one_by_one(
    tmp_path: Path, site: Site
) -> None:
    model = onnx_models.locator(tmp_path / "m.onnx")
    images = np.random.default_rng(0).random((5, 1, 16, 16), dtype=np.float32)
    session = onnxruntime.InferenceSession(str(model), providers=["CPUExecutionProvider"])
    labels = np.concatenate([session.run(None, {"image": image[None]})[0] for image in images])
    labels[0, 0, 0] ^= 1
    golden = {"input/image": images, "expected/labels": labels}
    inputs = (TensorSpec("image", "FP32", (1, 1, -1, -1)),)
    serving = site.serving(
        model, inputs, (TensorSpec("labels", "UINT8", (1, -1, -1)),), golden=golden, metric="equal"
    )
    done = selftest(*site.arguments(serving, tmp_path / "cache"))
    assert done.status == 0
    assert done.report.samples == 5
    assert done.report.agreement == pytest.approx(1 - 1 / labels.size, abs=1e-6)


def _of(tmp_path: Path, content: bytes) -> Path:
    path = tmp_path / "m.onnx"
    path.write_bytes(content)
    return path


NOT_MODELS = {
    "empty": b"",
    "an error page": b"<!DOCTYPE html><html><body>Not found</body></html>",
    "a Git LFS pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n",
    "random": np.random.default_rng(0).bytes(100_000),
    "compressed": b"\x1f\x8b\x08\x00" + bytes(100),
}


@pytest.mark.parametrize("content", NOT_MODELS.values(), ids=NOT_MODELS.keys())
def test_what_is_not_onnx_is_told(tmp_path: Path, content: bytes) -> None:
    report = examine(_of(tmp_path, content))
    assert report.reason == "NotOnnx"
    assert "m.onnx" in report.message


def test_a_model_cut_short_is_told(tmp_path: Path) -> None:
    whole = onnx_models.linear(tmp_path / "whole.onnx").read_bytes()
    report = examine(_of(tmp_path, whole[:-7]))
    assert (report.passed, report.reason) == (False, "NotOnnx")


def test_a_model_with_weights_in_another_file_is_refused(tmp_path: Path) -> None:
    report = examine(onnx_models.with_external_data(tmp_path))
    assert (report.passed, report.reason) == (False, "ExternalData")
    assert "'w' is kept in another file" in report.message


def test_a_model_from_the_future_is_told(tmp_path: Path) -> None:
    report = examine(onnx_models.from_the_future(tmp_path / "m.onnx"))
    assert (report.passed, report.reason) == (False, "IncompatibleRuntime")


SIGNATURES = {
    "another width": (TensorSpec("x", "FP32", (-1, 63)), "FP32 [-1, 64], declared is FP32 [-1, 63]"),
    "another type": (TensorSpec("x", "FP64", (-1, 64)), "FP32 [-1, 64], declared is FP64 [-1, 64]"),
    "another name": (TensorSpec("y", "FP32", (-1, 64)), "has the inputs ['x'], declared are ['y']"),
}


@pytest.mark.parametrize(("declared", "message"), SIGNATURES.values(), ids=SIGNATURES.keys())
def test_a_signature_other_than_declared_is_told(tmp_path: Path, declared: TensorSpec, message: str) -> None:
    report = examine(onnx_models.linear(tmp_path / "m.onnx"), signature=((declared,), OUTPUTS))
    assert (report.passed, report.reason) == (False, "SignatureMismatch")
    assert message in report.message


def test_the_self_test_compares_with_the_signature_of_the_serving_document(
    tmp_path: Path, site: Site
) -> None:
    serving = site.serving(onnx_models.linear(tmp_path / "m.onnx"), INPUTS, INPUTS)
    done = selftest(*site.arguments(serving, tmp_path / "cache"))
    assert (done.status, done.report.reason) == (1, "SignatureMismatch")


def test_a_model_that_never_ends_is_killed(tmp_path: Path) -> None:
    started = time.monotonic()
    done = selftest(onnx_models.endless(tmp_path / "m.onnx"), "--timeout", "3")
    assert (done.status, done.report.reason) == (1, "Timeout")
    assert "within 3 s" in done.report.message
    assert time.monotonic() - started < 15


def test_a_model_that_wants_all_memory_does_not_get_it(tmp_path: Path) -> None:
    done = selftest(onnx_models.glutton(tmp_path / "m.onnx"), "--memory", "300")
    assert (done.status, done.report.reason) == (1, "OutOfMemory")


def test_a_model_that_fails_on_its_golden_set_is_told(tmp_path: Path, site: Site) -> None:
    model = onnx_models.table(tmp_path / "m.onnx", rows=8)
    golden = {"input/index": np.array([1, 99]), "expected/y": np.zeros((2, 4), dtype=np.float32)}
    serving = site.serving(
        model, (TensorSpec("index", "INT64", (-1,)),), (TensorSpec("y", "FP32", (-1, 4)),), golden=golden
    )
    done = selftest(*site.arguments(serving, tmp_path / "cache"))
    assert (done.status, done.report.reason) == (1, "RunFailed")


GOLDEN_FAULTS = {
    "no inputs": ({"expected/scores": np.zeros((2, 10))}, "no array input/x"),
    "no answers": ({"input/x": X}, "no array expected/<output>"),
    "another type": ({"input/x": X.astype(np.float64), "expected/scores": X}, "input/x is float64"),
    "another rank": ({"input/x": X[0], "expected/scores": X}, "input/x has the shape [64]"),
    "different numbers": ({"input/x": X, "expected/scores": X[:3]}, "same number of samples"),
    "an output unknown": ({"input/x": X, "expected/other": X}, "expects an output 'other'"),
    "objects": ({"input/x": np.array([object()] * 2), "expected/scores": X}, "not an npz file"),
}


@pytest.mark.parametrize(("arrays", "message"), GOLDEN_FAULTS.values(), ids=GOLDEN_FAULTS.keys())
def test_a_golden_set_that_does_not_fit_is_told(
    tmp_path: Path, arrays: dict[str, np.ndarray], message: str
) -> None:
    np.savez(tmp_path / "golden.npz", **arrays)  # type: ignore[arg-type]  # numpy's hint knows only its own keyword
    report = examine(onnx_models.linear(tmp_path / "m.onnx"), tmp_path / "golden.npz")
    assert (report.passed, report.reason) == (False, "GoldenInvalid")
    assert message in report.message


def test_a_model_without_golden_set_is_loaded_and_run_on_zeros(tmp_path: Path) -> None:
    done = selftest(onnx_models.linear(tmp_path / "m.onnx"))
    assert (done.status, done.report.samples) == (0, 0)
    assert "run on zeros" in done.report.message


def test_zeros_that_cannot_be_run_fail_no_model_of_free_size(tmp_path: Path) -> None:
    done = selftest(onnx_models.locator(tmp_path / "m.onnx"))
    assert done.status == 0
    assert "zeros cannot be run" in done.report.message


def test_nothing_is_kept_or_sent_about_the_user(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    script = (
        "import os, sys; from pathlib import Path; from edgepod.engine import Engine;"
        "Engine.load(Path(sys.argv[1]), threads=1); print(len(os.listdir('/proc/self/task')))"
    )
    command = [sys.executable, "-c", script, str(onnx_models.linear(tmp_path / "m.onnx"))]
    environment = {key: value for key, value in os.environ.items() if not key.startswith("ORT_")} | {
        "HOME": str(home)
    }
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert list(home.rglob("*")) == []
    import_only = [sys.executable, "-c", "import numpy, os; print(len(os.listdir('/proc/self/task')))"]
    bare = subprocess.run(import_only, capture_output=True, text=True, timeout=60)
    assert int(done.stdout) == int(bare.stdout), "a thread that nobody asked for"


def test_an_unreachable_store_is_not_the_models_fault(tmp_path: Path) -> None:
    store = ["--store", "http://127.0.0.1:9", "--serving", "sha256:" + "0" * 64, "--cache", tmp_path]
    done = selftest(*store, "--fetch-timeout", "0.5")
    assert (done.status, done.report.reason) == (2, "StoreUnreachable")


def test_a_store_that_gives_other_bytes_is_not_the_models_fault(tmp_path: Path, site: Site) -> None:
    model = onnx_models.linear(tmp_path / "m.onnx")
    serving = site.serving(model, INPUTS, OUTPUTS)
    digest = site.put(model.read_bytes()).digest
    flipped = bytearray(site.files[digest])
    flipped[-1] ^= 1
    site.files[digest] = bytes(flipped)
    done = selftest(*site.arguments(serving, tmp_path / "cache"), "--fetch-timeout", "0.5")
    assert (done.status, done.report.reason) == (2, "DigestMismatch")


def test_the_report_is_the_termination_message_too(tmp_path: Path) -> None:
    from edgepod import selftest as module

    log = tmp_path / "termination-log"
    log.touch()
    status = module.run(module.Options(model=onnx_models.linear(tmp_path / "m.onnx")), log)
    assert status == 0
    assert SelfTestReport.from_json(log.read_bytes()).passed
