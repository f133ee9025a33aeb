"""The golden file either fits the model or says where it does not."""

import pickle
from pathlib import Path

import numpy as np
import pytest
from edgefleet.build import golden
from edgefleet.build.errors import GoldenInvalid
from edgefleet.bundle.format import Tensor

INPUTS = (
    Tensor(name="x", datatype="FP32", shape=(-1, 3)),
    Tensor(name="n", datatype="INT64", shape=(-1,)),
)
OUTPUTS = (Tensor(name="y", datatype="FP32", shape=(-1, 2)),)
X, N = np.ones((4, 3), np.float32), np.arange(4)


def saved(folder: Path, **arrays: np.ndarray) -> Path:
    path = folder / "golden.npz"
    np.savez(path, **{name.replace("__", "/"): array for name, array in arrays.items()})  # type: ignore[arg-type]
    return path


def test_inputs_come_in_the_models_order_with_or_without_the_prefix(tmp_path: Path) -> None:
    found = golden.read(saved(tmp_path, n=N, input__x=X, label__y=np.zeros(4)), INPUTS, OUTPUTS)
    assert list(found.inputs) == ["x", "n"]
    assert list(found.labels) == ["y"]
    assert found.count == 4


def test_numbers_are_turned_into_the_models_type_when_nothing_is_lost_but_precision(tmp_path: Path) -> None:
    found = golden.read(saved(tmp_path, x=X.astype(np.float64), n=N.astype(np.int8)), INPUTS, OUTPUTS)
    assert found.inputs["x"].dtype == np.float32
    assert found.inputs["n"].dtype == np.int64


@pytest.mark.parametrize(
    ("arrays", "says"),
    [
        pytest.param({"x": X}, "lacks the input 'input/n'", id="input-missing"),
        pytest.param(
            {"x": X, "n": N, "z": N}, "'z' fits nothing.*input/n.*input/x.*label/y", id="unknown-array"
        ),
        pytest.param({"x": X, "n": N, "label__z": N}, "'label/z' fits nothing", id="label-of-no-output"),
        pytest.param(
            {"x": X, "n": N[:3]}, "'n' must have one entry for each of the 4 samples", id="samples-differ"
        ),
        pytest.param({"x": X, "n": N, "label__y": N[:3]}, "'y' must have one entry", id="labels-too-few"),
        pytest.param({"x": X[:, :2], "n": N}, r"'x' has shape \(4, 2\).*samples, 3", id="wrong-shape"),
        pytest.param({"x": X[0], "n": N}, r"'x' has shape \(3,\)", id="no-sample-axis"),
        pytest.param({"x": X, "n": N + 0.5}, "'n' is float64, the model takes INT64", id="wrong-type"),
        pytest.param({"x": X[:0], "n": N[:0]}, "no sample", id="empty"),
    ],
)
def test_what_does_not_fit_is_named(arrays: dict[str, np.ndarray], says: str, tmp_path: Path) -> None:
    with pytest.raises(GoldenInvalid, match=says):
        golden.read(saved(tmp_path, **arrays), INPUTS, OUTPUTS)


class Trap:
    """Leaves a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.path,)


def test_a_file_that_wants_to_run_code_is_refused_unrun(tmp_path: Path) -> None:
    trap = np.array([Trap(tmp_path / "sprung")], dtype=object)
    with pytest.raises(GoldenInvalid, match="plain arrays"):
        golden.read(saved(tmp_path, x=trap), INPUTS, OUTPUTS)
    (tmp_path / "pickle.npz").write_bytes(pickle.dumps(Trap(tmp_path / "sprung")))
    with pytest.raises(GoldenInvalid):
        golden.read(tmp_path / "pickle.npz", INPUTS, OUTPUTS)
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize(
    "data", [b"", b"PK\x03\x04 and then nothing", b"<html>"], ids=["empty", "broken", "web-page"]
)
def test_a_file_that_is_no_npz_is_named(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "g.npz").write_bytes(data)
    with pytest.raises(GoldenInvalid, match=r"g\.npz"):
        golden.read(tmp_path / "g.npz", INPUTS, OUTPUTS)


def test_what_is_written_holds_inputs_answers_and_labels_and_is_the_same_each_time(tmp_path: Path) -> None:
    samples = golden.read(saved(tmp_path, x=X, n=N, label__y=N), INPUTS, OUTPUTS)
    for name in ("one.npz", "two.npz"):
        golden.write(tmp_path / name, samples, {"y": np.zeros((4, 2), np.float32)})
    assert (tmp_path / "one.npz").read_bytes() == (tmp_path / "two.npz").read_bytes()
    with np.load(tmp_path / "one.npz") as written:
        assert sorted(written.files) == ["expected/y", "input/n", "input/x", "label/y"]
