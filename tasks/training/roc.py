"""The ROC curve: all its corners, few of them, and the threshold that is best on it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tasks.training.card import RocCurve

AREA_TOLERANCE = 5e-4
_CELLS = (50, 100, 200, 500, 1000)
_FEW_CORNERS = 100


@dataclass(frozen=True)
class Cuts:
    """What is called tumour at each threshold that makes a difference, from the highest down.

    Attributes
    ----------
    value
        (K,) the different scores, falling; at cut k all rows with this score or a higher one are called tumour.
    true, false
        (K,) how many of those are tumour and how many are not.
    """

    value: NDArray[np.float64]
    true: NDArray[np.int64]
    false: NDArray[np.int64]

    @classmethod
    def of(cls, label: NDArray[np.int8], value: NDArray[np.float64]) -> Cuts:
        """Sort the scores of rows of both classes."""
        order = np.argsort(-value, kind="stable")
        falling, tumour = value[order], label[order] == 1
        last = np.append(np.flatnonzero(np.diff(falling)), len(falling) - 1)
        true = np.cumsum(tumour)[last]
        return cls(falling[last], true, last + 1 - true)


def sigmoid(logit: NDArray[np.float64]) -> NDArray[np.float64]:
    """Probability of "tumour", without overflow."""
    probability: NDArray[np.float64] = np.exp(-np.logaddexp(0.0, -logit))
    return probability


def roc_curve(label: NDArray[np.int8], logit: NDArray[np.float64]) -> RocCurve | None:
    """Corners of the ROC curve, from (0, 0) to (1, 1); None when there is one class only.

    Points between corners lie on straight lines and are left out without a loss. Where more than 100
    corners remain, they are thinned: the curve's length (to the right and up) is divided into equal cells, and
    of each cell the first and the last corner stay. A chord over a cell of length 2/c is at most (1/c)²/2 of area
    away from the curve, all c of them 1/(2c): with the finest division, of 1000 cells and at most 2000
    points, the area is never off by more than `AREA_TOLERANCE`; coarser ones are taken where they do as well.
    """
    if label.min() == label.max():
        return None
    cuts = Cuts.of(label, logit)
    x, y = np.append(0, cuts.false), np.append(0, cuts.true)
    corner = _corners(x, y)
    false_rate, true_rate = x[corner] / x[-1], y[corner] / y[-1]
    threshold = [None, *sigmoid(cuts.value).tolist()]
    area = float(np.trapezoid(true_rate, false_rate))
    kept, error = np.arange(len(corner)), 0.0
    for cells in _CELLS if len(corner) > _FEW_CORNERS else ():
        kept = _thinned(false_rate + true_rate, cells)
        error = abs(float(np.trapezoid(true_rate[kept], false_rate[kept])) - area)
        if error <= AREA_TOLERANCE:
            break
    return RocCurve(
        false_positive_rate=tuple(false_rate[kept].tolist()),
        true_positive_rate=tuple(true_rate[kept].tolist()),
        threshold=tuple(threshold[k] for k in corner[kept]),
        corners=len(corner),
        area_error=error,
    )


def youden_threshold(label: NDArray[np.int8], probability: NDArray[np.float64]) -> float | None:
    """Threshold with the highest sensitivity + specificity - 1 (Youden 1950); None when there is one class only.

    Midway between the lowest probability that is called tumour and the highest that is not. Of thresholds
    that are equally good it is the lowest, which misses the least tumour.
    """
    if label.min() == label.max():
        return None
    cuts = Cuts.of(label, probability)
    # Whole numbers, so that equal is equal.
    index = cuts.true * cuts.false[-1] - cuts.false * cuts.true[-1]
    best = len(index) - 1 - int(np.argmax(index[::-1]))
    called = float(cuts.value[best])
    refused = float(cuts.value[best + 1]) if best + 1 < len(index) else 0.0
    middle = (called + refused) / 2
    # Between neighbouring numbers there is none.
    return middle if middle > refused else called


def _corners(x: NDArray[np.int64], y: NDArray[np.int64]) -> NDArray[np.intp]:
    """Positions of the points where the line turns, and of its ends."""
    right, up = np.diff(x), np.diff(y)
    turns = right[:-1] * up[1:] != right[1:] * up[:-1]
    return np.concatenate([[0], np.flatnonzero(turns) + 1, [len(x) - 1]])


def _thinned(length: NDArray[np.float64], cells: int) -> NDArray[np.intp]:
    """Positions of the first and the last corner of each cell; `length` rises from 0 to 2."""
    cell = np.minimum((length * cells / 2).astype(np.int64), cells - 1)
    border = np.diff(cell) != 0
    return np.flatnonzero(np.append(True, border) | np.append(border, True))
