"""Intervals that respect that patches of one patient are alike: whole patients are drawn with replacement."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tasks.training.card import Estimate

REPLICATES = 1000


@dataclass(frozen=True)
class PatientBootstrap:
    """Cluster bootstrap of the rows of one split (`REPLICATES` draws, percentiles 2.5 and 97.5).

    Attributes
    ----------
    member
        (N,) number of each row's patient.
    draws
        (REPLICATES, patients) how often each patient is in each replicate.
    """

    member: NDArray[np.intp]
    draws: NDArray[np.float64]

    @classmethod
    def of(cls, patient: NDArray[np.str_], *, seed: int) -> PatientBootstrap:
        """Draw the patients of these rows."""
        member = np.unique(patient, return_inverse=True)[1]
        count = int(member.max()) + 1
        generator = np.random.default_rng([seed, count])
        draws = generator.multinomial(count, np.full(count, 1 / count), size=REPLICATES)
        return cls(member, draws.astype(np.float64))

    @property
    def patients(self) -> int:
        """Number of different patients."""
        return int(self.draws.shape[1])

    def mean(self, value: NDArray[np.floating], among: NDArray[np.bool_] | None = None) -> Estimate:
        """Mean of `value` (N,) over the rows `among` (N,), all by default; there must be some.

        There is no interval with fewer than two patients, or when most replicates have none of these rows.
        """
        weight = np.ones(len(value)) if among is None else among.astype(np.float64)
        sums = np.bincount(self.member, value * weight, minlength=self.patients)
        counts = np.bincount(self.member, weight, minlength=self.patients)
        mean = float(sums.sum() / counts.sum())
        drawn = self.draws @ counts
        replicates = (self.draws @ sums)[drawn > 0] / drawn[drawn > 0]
        if self.patients < 2 or len(replicates) < REPLICATES / 2:
            return Estimate(value=mean)
        low, high = np.percentile(replicates, [2.5, 97.5])
        return Estimate(value=mean, low=float(low), high=float(high))
