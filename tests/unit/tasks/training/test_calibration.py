from __future__ import annotations

import numpy as np
import pytest
from sklearn.calibration import calibration_curve

from tasks.training.calibration import BINS, calibration
from tasks.training.resampling import PatientBootstrap


def test_bins_are_those_of_scikit_learn_and_the_error_is_their_weighted_distance() -> None:
    generator = np.random.default_rng(1)
    probability = generator.random(5000) ** 2
    label = (generator.random(5000) < probability**0.5).astype(np.int8)
    patient = np.repeat([f"p{k}" for k in range(10)], 500)
    found = calibration(label, probability, PatientBootstrap.of(patient, seed=0))
    share, stated = calibration_curve(label, probability, n_bins=BINS, strategy="uniform")
    assert [one.tumour_share for one in found.bins] == pytest.approx(share.tolist())
    assert [one.probability for one in found.bins] == pytest.approx(stated.tolist())
    assert sum(one.rows for one in found.bins) == 5000
    error = sum(one.rows * abs(one.probability - one.tumour_share) for one in found.bins) / 5000
    assert found.expected_calibration_error == pytest.approx(error)
    assert error > 0.1
    assert found.brier.low is not None
    assert found.brier.low < found.brier.value


def test_empty_bins_are_left_out_and_one_is_in_the_last() -> None:
    label, probability = np.array([0, 1, 1], np.int8), np.array([0.0, 1.0, 1.0])
    found = calibration(label, probability, PatientBootstrap.of(np.array(["a", "b", "c"]), seed=0))
    assert [(one.low, one.high, one.rows) for one in found.bins] == [(0.0, 0.1, 1), (0.9, 1.0, 2)]
    assert (found.expected_calibration_error, found.brier.value) == (0.0, 0.0)
