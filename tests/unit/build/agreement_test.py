"""What counts as the same answer."""

import numpy as np
import pytest
from edgefleet.build.agreement import ATOL, RTOL, Rule, accuracy, agreement, rule_for
from edgefleet.build.errors import GoldenInvalid
from edgefleet.bundle.format import Tensor

TOP1 = Rule("top1", RTOL, ATOL)
CLOSE = Rule("close", RTOL, ATOL)
EQUAL = Rule("equal")


def tensor(name: str, datatype: str) -> Tensor:
    return Tensor(name=name, datatype=datatype, shape=(-1,))


@pytest.mark.parametrize(
    ("outputs", "metric"),
    [
        pytest.param({"scores": np.zeros((5, 3), np.float32)}, "top1", id="classifier"),
        pytest.param({"labels": np.zeros((5, 8, 8), np.uint8)}, "equal", id="label-map"),
        pytest.param({"flag": np.zeros((5,), np.bool_)}, "equal", id="yes-or-no"),
        pytest.param({"y": np.zeros((5, 1), np.float32)}, "close", id="regressor"),
        pytest.param({"y": np.zeros((5,), np.float32)}, "close", id="flat-regressor"),
        pytest.param({"label": np.zeros(5, np.int64), "p": np.zeros((5, 3), np.float32)}, "top1", id="label-and-scores"),
        pytest.param({"p": np.zeros((5, 3), np.float32), "y": np.zeros((5, 1), np.float32)}, "close", id="scores-and-value"),
    ],
)  # fmt: skip
def test_the_rule_follows_from_the_outputs(outputs: dict[str, np.ndarray], metric: str) -> None:
    kinds = {"f": "FP32", "u": "UINT8", "b": "BOOL", "i": "INT64"}
    tensors = [tensor(name, kinds[array.dtype.kind]) for name, array in outputs.items()]
    assert rule_for(tensors, outputs).metric == metric


def test_classes_agree_by_their_largest_score_alone() -> None:
    ours = np.array([[0.1, 0.9], [0.8, 0.2], [0.6, 0.4], [0.4, 0.6]], np.float32)
    theirs = np.array([[3.0, 9.0], [0.5, 0.1], [0.4, 0.6], [0.0, 0.1]], np.float32)
    assert agreement(TOP1, {"y": ours}, {"y": theirs}) == 0.75


def test_numbers_agree_within_a_relative_and_an_absolute_bound() -> None:
    ours = np.array([100.0, 100.0, 0.0, 0.0], np.float32)
    theirs = np.array([100.9, 101.1, 0.0009, 0.0011], np.float32)
    assert agreement(CLOSE, {"y": ours}, {"y": theirs}) == 0.5


def test_whole_numbers_agree_when_equal_whatever_the_rule() -> None:
    ours, theirs = np.array([[1, 2], [3, 4]]), np.array([[1, 3], [3, 4]])
    for rule in (TOP1, CLOSE, EQUAL):
        assert agreement(rule, {"y": ours}, {"y": theirs}) == 0.75


def test_the_worst_output_speaks_for_all() -> None:
    good, bad = np.array([1, 2]), np.array([1, 9])
    assert agreement(EQUAL, {"a": good, "b": good}, {"a": good, "b": bad}) == 0.5


@pytest.mark.parametrize("rule", [TOP1, CLOSE, EQUAL], ids=lambda rule: rule.metric)
def test_nan_agrees_with_nothing(rule: Rule) -> None:
    rows = np.array([[np.nan, 1.0]], np.float32)
    assert agreement(rule, {"y": rows}, {"y": rows}) < 1


def test_answers_of_another_shape_do_not_agree() -> None:
    assert agreement(EQUAL, {"y": np.zeros((2, 3))}, {"y": np.zeros((2, 4))}) == 0


SCORES = np.array([[0.1, 0.9], [0.8, 0.2]], np.float32)


@pytest.mark.parametrize(
    ("rule", "label", "got", "expected"),
    [
        pytest.param(TOP1, np.array([1, 1]), SCORES, 0.5, id="class-numbers"),
        pytest.param(TOP1, np.array([[1], [0]]), SCORES, 1.0, id="class-numbers-in-a-column"),
        pytest.param(TOP1, np.array([[0, 1], [0, 1]]), SCORES, 0.5, id="one-hot"),
        pytest.param(EQUAL, np.array([[1], [2]]), np.array([1, 3]), 0.5, id="labels"),
        pytest.param(EQUAL, np.array([256, 1]), np.array([0, 1], np.uint8), 0.5, id="labels-beyond-the-type"),
        pytest.param(CLOSE, np.array([1, 2]), np.array([[1.001], [2.5]], np.float32), 0.5, id="values"),
    ],
)
def test_accuracy_is_the_share_of_right_answers(
    rule: Rule, label: np.ndarray, got: np.ndarray, expected: float
) -> None:
    assert accuracy(rule, {"y": label}, {"y": got}) == expected


def test_labels_that_do_not_fit_are_named() -> None:
    with pytest.raises(GoldenInvalid, match=r"label/y.*\(3,\)"):
        accuracy(TOP1, {"y": np.zeros(3)}, {"y": SCORES})


def test_the_pod_counts_the_same_way() -> None:
    """The gate of the build and the self-test of the site must not differ on one golden set."""
    from edgepod import agreement as pod

    rng = np.random.default_rng(3)
    for shape in ((40, 5), (40, 1), (40,), (40, 6, 6)):
        for kind in (np.float32, np.uint8):
            ours = (rng.normal(0, 2, shape) + 3).astype(kind)
            theirs = (ours + rng.normal(0, 0.02, shape) * ours).astype(kind)
            for rule in (TOP1, CLOSE, EQUAL):
                mine = agreement(rule, {"y": ours}, {"y": theirs})
                # the pod runs one sample at a time
                shares = [
                    pod.share(theirs[at : at + 1], ours[at : at + 1], rule.metric, rule.rtol, rule.atol)
                    for at in range(len(ours))
                ]
                assert mine == pytest.approx(np.mean(shares)), (shape, kind, rule)
