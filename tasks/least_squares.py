"""Least squares with coefficients that are not negative: a time, a rate or a size never is."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

# Relative to the scale of the columns: what is smaller is rounding.
_TOLERANCE = 1e-10
_ROUNDS_A_COLUMN = 30


def nonnegative_least_squares(design: NDArray[np.float64], wanted: NDArray[np.float64]) -> NDArray[np.float64]:
    """Give x >= 0 that makes ``|design @ x - wanted|`` smallest.

    The active-set method of Lawson and Hanson (Solving Least Squares Problems, 1974, chapter 23). Columns may have
    very different units; each is scaled to the length 1 first.

    Parameters
    ----------
    design
        (observations, coefficients); a column of zeros gets the coefficient 0.
    wanted
        (observations,).
    """
    lengths = np.linalg.norm(design, axis=0)
    scaled = design / np.where(lengths > 0, lengths, 1.0)
    least = _TOLERANCE * max(1.0, float(np.linalg.norm(wanted)))
    free = np.zeros(design.shape[1], bool)
    x = np.zeros(design.shape[1])
    for _ in range(_ROUNDS_A_COLUMN * design.shape[1]):
        gain = np.where(free, -np.inf, scaled.T @ (wanted - scaled @ x))
        best = int(np.argmax(gain))
        if gain[best] <= least:
            break
        free[best] = True
        x, free = _with_free(scaled, wanted, x, free)
    return np.where(lengths > 0, x / np.where(lengths > 0, lengths, 1.0), 0.0)


def _with_free(
    scaled: NDArray[np.float64], wanted: NDArray[np.float64], x: NDArray[np.float64], free: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Solve for the free coefficients; those that would become negative stop at 0 and are free no more."""
    free = free.copy()
    while free.any():
        solved = np.zeros_like(x)
        solved[free] = np.linalg.lstsq(scaled[:, free], wanted, rcond=None)[0]
        negative = free & (solved <= 0)
        if not negative.any():
            return solved, free
        way = x[negative] / np.maximum(x[negative] - solved[negative], np.finfo(float).tiny)
        x = x + float(way.min()) * (solved - x)
        stopped = np.flatnonzero(negative)[way <= way.min()]
        x[stopped], free[stopped] = 0.0, False
    return np.zeros_like(x), free
