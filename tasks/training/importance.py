"""Which patches an epoch has when those that the network is wrong about shall come more often.

An epoch without importance has `n` draws, each labelled row a fixed number of times (`tasks.training.draws`). With it,
draw `i` is expected ``n p_i`` times, and its gradient is multiplied by ``1 / (n p_i)``: the expectation of the sum over
the epoch stays the same (Zhao & Zhang 2015, Katharopoulos & Fleuret 2018). All here is a function of its arguments.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tasks.importance_config import ImportanceConfig

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

_LEAST = 1e-9
"""Of the mean: rows without any loss must be drawn too."""
_HALVINGS = 80


@dataclass(frozen=True)
class Draws:
    """The rows of an epoch.

    Attributes
    ----------
    rows
        (n,) rising positions in the labelled rows, some several times or not at all.
    weight
        (N,) by labelled row: what its gradient is multiplied by each time.
    variance_ratio
        Mean squared norm of a patch's gradient, times its weight, over that of even draws, as far as the measures are
        these norms; below 1: importance helps.
    """

    rows: Ints
    weight: NDArray[np.float32]
    variance_ratio: float = 1.0

    @property
    def distinct(self) -> int:
        """How many rows the epoch has."""
        return int(np.count_nonzero(np.diff(self.rows, prepend=-1)))


def even_draws(base: Ints, rows: int) -> Draws:
    """Take the draws as they are, all with weight 1."""
    return Draws(base, np.ones(rows, np.float32))


def importance_draws(
    config: ImportanceConfig,
    base: Ints,
    measure: NDArray[np.float32],
    stratum: NDArray[np.int8],
    *,
    seed: int,
    epoch: int,
) -> Draws:
    """Draw as many rows as `base` has, each expected as often as its measure says.

    Parameters
    ----------
    base
        (n,) rising positions of what the epoch would have.
    measure
        (N,) how wrong the network was about each row lately, not negative; NaN: it was not seen.
    stratum
        (N,) rows compete with those of the same stratum only, which keeps its number of draws.
    """
    rate, counts = np.ones(len(base)), np.ones(len(base), np.int64)
    # A fourth number keeps these draws apart from all others.
    generator = np.random.default_rng([seed, epoch, 0, 2])
    of_draw = stratum[base]
    for value in np.unique(of_draw):
        own = np.flatnonzero(of_draw == value)
        rate[own] = relative_rates(measure[base[own]], config)
        counts[own] = systematic_counts(rate[own], float(generator.uniform()))
    weight = np.ones(len(measure), np.float32)
    weight[base] = rate**-config.correction
    return Draws(np.repeat(base, counts), weight, _variance_ratio(measure[base], rate))


def relative_rates(measure: NDArray[np.float32], config: ImportanceConfig) -> Floats:
    """How often each draw is expected, ``n p``.

    ``u + (1 - u) clip(s · measure, 1 / r, r)`` with the share `u` of even draws and the ratio `r` of the configuration;
    `s` is chosen so that the mean is 1. So all are within ``[1 / r, r]``, and their sum is their number.
    """
    known = measure[np.isfinite(measure)].astype(np.float64)
    mean = float(known.mean()) if len(known) else 0.0
    if mean == 0.0 or config.max_ratio == 1.0:
        return np.ones(len(measure))
    # Rows that were not seen yet come as often as the mean.
    filled = np.where(np.isfinite(measure), measure, mean).astype(np.float64)
    shape = np.maximum(filled / mean, _LEAST)
    least, most = 1.0 / config.max_ratio, config.max_ratio
    low, high = np.log(least / shape.max()), np.log(most / shape.min())
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        if np.clip(shape * np.exp(middle), least, most).mean() < 1.0:
            low = middle
        else:
            high = middle
    clipped: Floats = np.clip(shape * np.exp(high), least, most)
    return config.uniform_share + (1.0 - config.uniform_share) * clipped


def systematic_counts(rate: Floats, offset: float) -> Ints:
    """Draw by one number: counts whose sum is ``len(rate)``, each one of the two integers around its rate.

    The rates are laid end to end, and a draw goes to each place that ends in ``1 - offset``, a whole number apart
    (systematic sampling, Madow 1949). With an offset drawn evenly from [0, 1) the expectation of each count is its
    rate, and no other way with this expectation has counts of smaller variance.
    """
    ends = np.minimum(np.cumsum(rate) * (len(rate) / rate.sum()), len(rate))
    marks = np.minimum(np.floor(ends + offset).astype(np.int64), len(rate))
    marks[-1] = len(rate)
    counts: Ints = np.diff(marks, prepend=0)
    return counts


def _variance_ratio(measure: NDArray[np.float32], rate: Floats) -> float:
    squares = np.square(measure.astype(np.float64))
    known = np.isfinite(squares)
    even = float(squares[known].sum())
    return float((squares[known] / rate[known]).sum()) / even if even > 0 else 1.0
