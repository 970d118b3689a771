"""Least squares with coefficients that are not negative: a time, a rate or a size never is."""

from __future__ import annotations

from itertools import combinations

import numpy as np
from numpy.typing import NDArray

_ROUNDING = 1e-12


def nonnegative_least_squares(design: NDArray[np.float64], wanted: NDArray[np.float64]) -> NDArray[np.float64]:
    """Give x >= 0 that makes ``|design @ x - wanted|`` smallest.

    Where it is not 0, the best x is that of plain least squares in these coefficients alone. All choices of them are
    tried, so this is for a few coefficients; of several that are as good, the first and fewest. Columns may have very
    different units.

    Parameters
    ----------
    design
        (observations, coefficients); a column of zeros gets the coefficient 0.
    wanted
        (observations,).
    """
    lengths = np.linalg.norm(design, axis=0)
    there = np.flatnonzero(lengths)
    best, least = np.zeros(design.shape[1]), float(np.linalg.norm(wanted))
    for count in range(1, 1 + len(there)):
        for free in map(list, combinations(there, count)):
            x = np.zeros(design.shape[1])
            x[free] = np.linalg.lstsq(design[:, free] / lengths[free], wanted, rcond=None)[0] / lengths[free]
            off = float(np.linalg.norm(wanted - design @ x))
            if x.min() >= 0 and off < least - _ROUNDING * float(np.linalg.norm(wanted)):
                best, least = x, off
    return best
