"""Whether probabilities are what they say."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tasks.training.card import Calibration, ReliabilityBin
from tasks.training.resampling import PatientBootstrap

BINS = 10


def calibration(label: NDArray[np.int8], probability: NDArray[np.float64], bootstrap: PatientBootstrap) -> Calibration:
    """Compare probabilities with shares of tumour in `BINS` equal bins, and by the Brier score.

    The expected calibration error is the mean distance between the two over the bins, weighted by their
    rows (Naeini et al. 2015). It has no interval: resampling alone raises it.
    """
    place = np.minimum((probability * BINS).astype(np.int64), BINS - 1)
    rows = np.bincount(place, minlength=BINS)
    stated = np.bincount(place, probability, minlength=BINS)
    found = np.bincount(place, label == 1, minlength=BINS)
    return Calibration(
        bins=tuple(
            ReliabilityBin(
                low=k / BINS,
                high=(k + 1) / BINS,
                rows=int(rows[k]),
                probability=float(stated[k] / rows[k]),
                tumour_share=float(found[k] / rows[k]),
            )
            for k in np.flatnonzero(rows)
        ),
        expected_calibration_error=float(np.abs(stated - found).sum() / rows.sum()),
        brier=bootstrap.mean((probability - (label == 1)) ** 2),
    )
