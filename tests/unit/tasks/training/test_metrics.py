from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, log_loss, roc_auc_score

from tasks.training.metrics import Scores, area_under_curve, split_metrics


def scores(rows: int = 400, patients: int = 10, seed: int = 0) -> Scores:
    generator = np.random.default_rng(seed)
    label = generator.integers(0, 2, rows).astype(np.int8)
    # Rounded, so that there are ties.
    logit = np.round(generator.normal(size=rows) + label, 1)
    return Scores(logit, label, np.array([f"patient_{k:03d}" for k in generator.integers(0, patients, rows)]))


def test_values_are_those_of_scikit_learn() -> None:
    given = scores()
    found = split_metrics(given, split="validation", seed=1)
    probability = 1 / (1 + np.exp(-given.logit))
    assert found.auc is not None
    assert found.auc.value == pytest.approx(roc_auc_score(given.label, given.logit))
    assert found.accuracy.value == accuracy_score(given.label, probability > 0.5)
    assert found.log_loss.value == pytest.approx(log_loss(given.label, probability))
    assert (found.rows, found.patients, found.tumour_rows) == (400, 10, int(given.label.sum()))


def test_intervals_are_seeded_hold_the_value_and_widen_when_patients_differ() -> None:
    given = scores(patients=40)
    found = split_metrics(given, split="validation", seed=1)
    assert found == split_metrics(given, split="validation", seed=1)
    assert found != split_metrics(given, split="validation", seed=2)
    assert found.auc is not None
    assert found.auc.low is not None
    assert found.auc.high is not None
    assert found.auc.low < found.auc.value < found.auc.high
    # The same scores, but each patient is either all right or all wrong.
    right = (given.logit > 0) == (given.label == 1)
    halves = np.where(right, "right", "wrong")
    together = Scores(given.logit, given.label, np.char.add(halves, np.resize([str(k) for k in range(20)], 400)))
    clustered = split_metrics(together, split="validation", seed=1).accuracy
    plain = found.accuracy
    assert clustered.high is not None
    assert clustered.low is not None
    assert plain.high is not None
    assert plain.low is not None
    assert clustered.high - clustered.low > 1.5 * (plain.high - plain.low)


def test_one_class_has_no_auc_and_one_patient_no_interval() -> None:
    given = scores(patients=1)
    found = split_metrics(given, split="validation", seed=1)
    assert found.auc is not None
    assert (found.auc.low, found.accuracy.low) == (None, None)
    one_class = Scores(given.logit, np.ones_like(given.label), given.patient)
    assert area_under_curve(one_class) is None
    assert split_metrics(one_class, split="validation", seed=1).auc is None


def test_when_most_replicates_lack_a_class_there_is_no_interval_of_the_auc() -> None:
    label = np.array([1, *[0] * 20], np.int8)
    given = Scores(np.linspace(1, -1, 21), label, np.array([f"p{k // 7}" for k in range(21)]))
    found = split_metrics(given, split="validation", seed=0)
    assert found.auc is not None
    assert found.auc.value == 1.0
    # Three patients, one of whom has all the tumour: missing in (2/3)³ = 30 % of the replicates.
    assert found.auc.low == 1.0
    rare = Scores(given.logit, label, np.array([f"p{k}" for k in range(21)]))
    rare_twice = Scores(np.tile(rare.logit, 1), label, rare.patient)
    assert split_metrics(rare_twice, split="validation", seed=0).auc is not None


def test_confident_mistakes_have_a_large_finite_loss() -> None:
    wrong = Scores(np.array([1000.0, -1000.0]), np.array([0, 1], np.int8), np.array(["a", "b"]))
    assert split_metrics(wrong, split="validation", seed=0).log_loss.value == 1000.0
