"""When do two answers agree?

Two questions use this. The self-test asks it of the golden set, by the metric the bundle names. The canary splitter asks it
of two live answers, where no metric is known: classes by their argmax, whole numbers by value.
"""

from collections.abc import Mapping
from typing import Final

import numpy as np

from edgepod.contract import METRICS
from edgepod.wire.tensors import Array

TOP1, EQUAL, CLOSE = METRICS
LIVE_SHARE: Final = 0.99
"""Two live answers agree when in every output this share of elements (of rows, for classes) does."""
LIVE_RTOL: Final = 0.01
LIVE_ATOL: Final = 0.001


def share(got: Array, want: Array, metric: str, rtol: float = 0.0, atol: float = 0.0) -> float:
    """Share of elements (for `top1`: of rows along the last axis) that agree, 0 to 1; 0 when the shapes differ.

    Whole numbers, truth values and strings are compared for equality whatever the metric; `top1` falls back to `close` for
    an output whose last axis has no two values. A NaN agrees with nothing. `edgefleet bundle build` goes by the same rules.
    """
    if got.shape != want.shape:
        return 0.0
    if got.size == 0:
        return 1.0
    if metric == EQUAL or got.dtype.kind != "f":
        return float(np.mean(got == want))
    if metric == TOP1 and got.ndim and got.shape[-1] > 1:
        broken = np.isnan(got).any(axis=-1) | np.isnan(want).any(axis=-1)
        return float(np.mean((got.argmax(axis=-1) == want.argmax(axis=-1)) & ~broken))
    with np.errstate(invalid="ignore"):
        got, want = got.astype(np.float64), want.astype(np.float64)
        return float(np.mean((np.abs(got - want) <= atol + rtol * np.abs(want)) | (got == want)))


def live(own: Mapping[str, Array], other: Mapping[str, Array]) -> bool:
    """Whether a canary's answer agrees with the serving model's: same outputs, same types, and LIVE_SHARE of each."""
    return own.keys() == other.keys() and all(_live_output(array, other[name]) for name, array in own.items())


def _live_output(own: Array, other: Array) -> bool:
    if own.dtype.kind != other.dtype.kind:
        return False
    return share(other, own, TOP1, LIVE_RTOL, LIVE_ATOL) >= LIVE_SHARE
