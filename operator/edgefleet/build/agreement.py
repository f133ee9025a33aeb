"""How much two sets of answers agree, by the rule that travels with the bundle.

Integer and boolean outputs are compared for equality whatever the rule; `top1` falls back to `close` for an output
whose last axis has no two entries. The pod's self-test goes by the same rules.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from edgefleet.build.errors import GoldenInvalid
from edgefleet.bundle.format import Tensor

Arrays = Mapping[str, NDArray[Any]]

RTOL: Final = 1e-2
ATOL: Final = 1e-3


@dataclass(frozen=True, slots=True)
class Rule:
    """`top1`, `equal` or `close`, see edgepod.contract.Golden."""

    metric: str
    rtol: float = 0.0
    atol: float = 0.0


def rule_for(outputs: Sequence[Tensor], answers: Arrays) -> Rule:
    """Pick the rule that suits a model's outputs."""
    floats = [answers[tensor.name] for tensor in outputs if tensor.datatype.startswith("FP")]
    if not floats:
        return Rule("equal")
    if all(_ranked(array) for array in floats):
        return Rule("top1", RTOL, ATOL)
    return Rule("close", RTOL, ATOL)


def agreement(rule: Rule, expected: Arrays, got: Arrays) -> float:
    """Share (0 to 1) of answers that agree, in the output where fewest do. NaN agrees with nothing."""
    return min(float(_same(rule, expected[name], got[name]).mean()) for name in expected)


def accuracy(rule: Rule, labels: Arrays, got: Arrays) -> float:
    """Share (0 to 1) of answers that are right, averaged over the outputs that have labels. Raises GoldenInvalid."""
    return float(np.mean([_right(rule, name, label, got[name]).mean() for name, label in labels.items()]))


def _same(rule: Rule, expected: NDArray[Any], got: NDArray[Any]) -> NDArray[np.bool_]:
    if expected.shape != got.shape:
        return np.zeros(1, dtype=np.bool_)
    if not np.issubdtype(expected.dtype, np.floating) or rule.metric == "equal":
        return np.asarray(expected == got)
    if rule.metric == "top1" and _ranked(expected):
        sound = ~np.isnan(expected).any(axis=-1) & ~np.isnan(got).any(axis=-1)
        return np.asarray(sound & (expected.argmax(axis=-1) == got.argmax(axis=-1)))
    return np.asarray(
        np.isclose(got.astype(np.float64), expected.astype(np.float64), rtol=rule.rtol, atol=rule.atol)
    )


def _right(rule: Rule, name: str, label: NDArray[Any], got: NDArray[Any]) -> NDArray[np.bool_]:
    if rule.metric == "top1" and _ranked(got) and label.size == got.size // got.shape[-1]:
        sound = ~np.isnan(got).any(axis=-1)
        return np.asarray(sound & (label.reshape(got.shape[:-1]) == got.argmax(axis=-1)))
    if label.size != got.size:
        raise GoldenInvalid(
            f"'label/{name}' has shape {label.shape}, which does not fit the output's {got.shape}"
        )
    label = label.reshape(got.shape)
    # whole numbers are compared as they are: a cast could make 256 a 0
    return _same(rule, label.astype(np.float64) if np.issubdtype(got.dtype, np.floating) else label, got)


def _ranked(array: NDArray[Any]) -> bool:
    return array.ndim >= 2 and array.shape[-1] > 1 and bool(np.issubdtype(array.dtype, np.floating))
