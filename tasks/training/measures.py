"""How wrong the network was lately about each training row, the same on all ranks after each epoch."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tasks.train_config import TrainConfig
from tasks.training import collective
from tasks.training.draws import epoch_draws
from tasks.training.importance import Draws, even_draws, importance_draws

_STEPS_A_NAT = 2**20
"""Measures are added up as whole numbers of such parts, so that the sum does not depend on the order or the ranks."""
_MOST = 1e6


class Measures:
    """Measures of the labelled rows of a training; empty, and idle, without importance.

    In an epoch each rank adds up what it sees. Where the epoch ends, the sums of all ranks become means, and these
    the new share of each row's moving average.

    Parameters
    ----------
    label
        (N,) of the labelled rows.
    """

    def __init__(self, config: TrainConfig, label: NDArray[np.int8], seed: int) -> None:
        self._config, self._seed, self._label = config, seed, label
        self._on = config.importance.by != "none"
        count = len(label) if self._on else 0
        self._average = np.full(count, np.nan, np.float32)
        self._seen = np.zeros((2, count), np.int64)

    def draws(self, epoch: int) -> Draws:
        """Draw the rows of an epoch (from 1); the same on all ranks."""
        importance = self._config.importance
        base = epoch_draws(self._config, self._label, seed=self._seed, epoch=epoch)
        if not self._on or epoch <= importance.uniform_epochs:
            return even_draws(base, len(self._label))
        # Balanced classes stay balanced.
        stratum = np.zeros_like(self._label) if self._config.class_balance == "none" else self._label
        return importance_draws(importance, base, self._average, stratum, seed=self._seed, epoch=epoch)

    def extend(self, label: NDArray[np.int8]) -> None:
        """Take up more rows, which come after those that were there; `label` is (N,) of all."""
        added = len(label) - len(self._label) if self._on else 0
        self._label = label
        self._average = np.pad(self._average, (0, added), constant_values=np.nan)
        self._seen = np.pad(self._seen, ((0, 0), (0, added)))

    def row(self, draws: Draws) -> dict[str, float | None]:
        """Tell an epoch's draws for the log; nothing without importance."""
        if not self._on:
            return {}
        return {"distinct_rows": draws.distinct, "variance_ratio": round(draws.variance_ratio, 4)}

    def add(self, rows: NDArray[np.int64], loss: NDArray[np.float32], class_weight: NDArray[np.float32]) -> None:
        """Note the losses (nats) that this rank saw; all arrays (n,)."""
        if not self._on:
            return
        measure = loss if self._config.importance.by == "loss" else gradient_bound(loss)
        parts = np.rint(np.minimum(measure * class_weight, _MOST).astype(np.float64) * _STEPS_A_NAT)
        np.add.at(self._seen[0], rows, parts.astype(np.int64))
        np.add.at(self._seen[1], rows, 1)

    def end_epoch(self) -> None:
        """Take up what all ranks saw."""
        if not self._on:
            return
        self._average = renewed(self._average, collective.total_counts(self._seen), self._config.importance.memory)
        self._seen[:] = 0

    def arrays(self) -> list[NDArray[np.generic]]:
        """Give the state of all ranks together, for a checkpoint."""
        return [self._average, collective.total_counts(self._seen)] if self._on else []

    def restore(self, arrays: list[NDArray[np.generic]], *, first_rank: bool) -> None:
        """Take the state of a checkpoint; the first rank alone takes what was seen in its epoch."""
        if self._on:
            average, seen = arrays
            self._average = average.astype(np.float32)
            self._seen = seen.astype(np.int64) if first_rank else np.zeros_like(seen, np.int64)


def gradient_bound(cross_entropy: NDArray[np.float32]) -> NDArray[np.float32]:
    """Distance of the probability from the label, 0 to 1: the norm of the loss's derivative by the logit.

    Up to a factor that is about the same for all patches it bounds the norm of a patch's gradient (Katharopoulos &
    Fleuret 2018, section 3.2).
    """
    return -np.expm1(-cross_entropy)


def renewed(average: NDArray[np.float32], seen: NDArray[np.int64], memory: float) -> NDArray[np.float32]:
    """Move the averages (N,) of the rows that were seen; (2, N) sums in parts of `_STEPS_A_NAT` and counts."""
    new = average.copy()
    rows = np.flatnonzero(seen[1])
    mean = seen[0, rows] / (seen[1, rows] * float(_STEPS_A_NAT))
    before = average[rows].astype(np.float64)
    new[rows] = np.where(np.isnan(before), mean, memory * before + (1.0 - memory) * mean)
    return new
