from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score
from sklearn.metrics import roc_curve as their_roc_curve

from tasks.training.roc import AREA_TOLERANCE, roc_curve, sigmoid, youden_threshold

Sample = tuple[NDArray[np.int8], NDArray[np.float64]]


@st.composite
def samples(draw: st.DrawFn) -> Sample:
    """Labels of both classes and logits, of which some are equal."""
    rows = draw(st.integers(2, 60))
    label = draw(st.lists(st.integers(0, 1), min_size=rows, max_size=rows).filter(lambda chosen: len(set(chosen)) == 2))
    logit = draw(st.lists(st.integers(-8, 8), min_size=rows, max_size=rows))
    return np.array(label, np.int8), np.array(logit) / 2


@given(samples())
def test_corners_are_those_of_scikit_learn(sample: Sample) -> None:
    label, logit = sample
    found = roc_curve(label, logit)
    assert found is not None
    false_rate, true_rate, _ = their_roc_curve(label, logit, drop_intermediate=False)
    # Every corner is a point of theirs, and no point of theirs is off our line.
    assert set(zip(found.false_positive_rate, found.true_positive_rate, strict=True)) <= set(
        zip(false_rate.tolist(), true_rate.tolist(), strict=True)
    )
    area = float(np.trapezoid(found.true_positive_rate, found.false_positive_rate))
    assert area == pytest.approx(roc_auc_score(label, logit), abs=1e-12)
    assert (found.corners, found.area_error) == (len(found.threshold), 0.0)


@given(samples())
def test_a_corner_is_what_its_threshold_calls_tumour(sample: Sample) -> None:
    label, logit = sample
    found = roc_curve(label, logit)
    assert found is not None
    assert found.threshold[0] is None
    probability = sigmoid(logit)
    for threshold, false_rate, true_rate in list(
        zip(found.threshold, found.false_positive_rate, found.true_positive_rate, strict=True)
    )[1:]:
        assert threshold is not None
        assert np.mean(probability[label == 1] >= threshold) == pytest.approx(true_rate)
        assert np.mean(probability[label == 0] >= threshold) == pytest.approx(false_rate)


@pytest.mark.parametrize("shift", [0.0, 0.3, 1.5, 4.0])
def test_many_corners_become_few_and_the_area_stays(shift: float) -> None:
    generator = np.random.default_rng(5)
    label = generator.integers(0, 2, 100_000).astype(np.int8)
    logit = generator.normal(size=100_000) + shift * label
    found = roc_curve(label, logit)
    assert found is not None
    assert found.corners > 2 * len(found.threshold)
    assert len(found.threshold) <= 2000
    area = float(np.trapezoid(found.true_positive_rate, found.false_positive_rate))
    assert abs(area - roc_auc_score(label, logit)) == pytest.approx(found.area_error, abs=1e-12)
    assert found.area_error <= AREA_TOLERANCE


def test_the_worst_curve_for_thinning_keeps_its_area() -> None:
    """A staircase of even steps lies on one side of every chord, so that errors do not cancel."""
    steps = 3000
    label = np.tile(np.array([1, 0], np.int8), steps)
    found = roc_curve(label, -np.arange(2 * steps, dtype=np.float64))
    assert found is not None
    assert found.corners > 5000
    assert len(found.threshold) <= 2000
    assert 0 < found.area_error <= AREA_TOLERANCE


def test_one_class_has_neither_curve_nor_threshold() -> None:
    label, logit = np.ones(4, np.int8), np.arange(4.0)
    assert roc_curve(label, logit) is None
    assert youden_threshold(label, sigmoid(logit)) is None


@given(samples())
def test_no_threshold_is_better_than_youdens(sample: Sample) -> None:
    label, logit = sample
    probability = sigmoid(logit)

    def index(threshold: float) -> float:
        called = probability >= threshold
        return float(np.mean(called[label == 1]) - np.mean(called[label == 0]))

    found = youden_threshold(label, probability)
    assert found is not None
    best = max(index(value) for value in [*probability, 2.0])
    assert index(found) == pytest.approx(best)
    # The lowest of the equals: anything that calls more tumour is worse.
    lower = [value for value in probability if value < found]
    assert not lower or index(max(lower)) < best + 1e-12


def test_neighbouring_numbers_are_told_apart() -> None:
    low = 0.3
    high = float(np.nextafter(low, 1))
    assert youden_threshold(np.array([0, 1], np.int8), np.array([low, high])) == high
