"""Area under the ROC curve with an interval that respects that patches of one patient resemble each other."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tasks.artifacts import Record

RESAMPLES = 2000


class Measure(Record):
    """A figure with its 95 % interval, or the reason why there is none.

    Attributes
    ----------
    low, high
        2.5 % and 97.5 % quantiles of the bootstrap over patients.
    reason
        Why the value or its interval is missing.
    """

    value: float | None = None
    low: float | None = None
    high: float | None = None
    reason: str | None = None


def area_under_curve(labels: NDArray[np.int8], values: NDArray[np.floating]) -> float | None:
    """Area under the ROC curve; None when all `labels` (0 or 1) are the same."""
    return _group_wins(labels, values, np.zeros(len(labels), np.int64)).auc(np.ones(min(len(labels), 1)))


def auc_with_interval(
    labels: NDArray[np.int8],
    values: NDArray[np.floating],
    groups: NDArray[np.str_],
    *,
    what: str,
    seed: int,
    resamples: int = RESAMPLES,
) -> Measure:
    """Area under the ROC curve with a 95 % percentile interval from resampling `groups` with replacement.

    Parameters
    ----------
    labels, values
        0 or 1, and scores; (n,).
    groups
        Patient of each value, (n,).
    what
        Name of the things that are classified, for the reason when there is no figure.
    """
    names, members = np.unique(groups, return_inverse=True)
    wins = _group_wins(labels, values, members)
    value = wins.auc(np.ones(len(names)))
    if value is None:
        return Measure(reason=_why_no_auc(labels, what))
    draws = np.random.default_rng(seed).multinomial(len(names), np.full(len(names), 1 / len(names)), size=resamples)
    found = wins.aucs(draws.astype(np.float64))
    if len(names) < 2:
        return Measure(value=value, reason=f"no interval: all {what} are of one patient")
    if len(found) < resamples / 2:
        return Measure(value=value, reason=f"no interval: most resamples of the {len(names)} patients hold one class")
    low, high = np.quantile(found, [0.025, 0.975])
    return Measure(value=value, low=float(low), high=float(high))


@dataclass(frozen=True, slots=True)
class _GroupWins:
    """Pairs of a positive and a negative, counted by group: all that any resampling of groups needs.

    The area under the ROC curve is the share of pairs in which the positive has the higher value (ties
    count half). With groups drawn `w` times it is ``w·wins·w / (w·positives)(w·negatives)``.
    """

    wins: NDArray[np.float64]
    positives: NDArray[np.float64]
    negatives: NDArray[np.float64]

    def auc(self, weights: NDArray[np.float64]) -> float | None:
        found = self.aucs(weights[None])
        return float(found[0]) if len(found) else None

    def aucs(self, draws: NDArray[np.float64]) -> NDArray[np.float64]:
        """Areas of the draws (R, groups) that hold both classes."""
        pairs = (draws @ self.positives) * (draws @ self.negatives)
        won = np.sum(draws @ self.wins * draws, axis=1)
        areas: NDArray[np.float64] = won[pairs > 0] / pairs[pairs > 0]
        return areas


def _group_wins(labels: NDArray[np.int8], values: NDArray[np.floating], members: NDArray[np.int64]) -> _GroupWins:
    count = int(members.max()) + 1 if len(members) else 0
    positive = labels == 1
    order = np.argsort(values[positive])
    rising, owners = values[positive][order], members[positive][order]
    wins = np.zeros((count, count))
    for group in range(count):
        rivals = values[~positive & (members == group)]
        # Each rival is half below all positives from its own value on, and half below all that are higher.
        first = np.concatenate([np.searchsorted(rising, rivals, side) for side in ("left", "right")])
        below = np.cumsum(np.bincount(first, minlength=len(rising) + 1))[:-1]
        wins[:, group] = np.bincount(owners, below / 2, minlength=count)
    return _GroupWins(
        wins,
        np.bincount(members[positive], minlength=count).astype(np.float64),
        np.bincount(members[~positive], minlength=count).astype(np.float64),
    )


def _why_no_auc(labels: NDArray[np.int8], what: str) -> str:
    if len(labels) == 0:
        return f"no {what} with a known label"
    return f"all {len(labels)} labelled {what} are {'tumour' if labels[0] == 1 else 'normal'}"
