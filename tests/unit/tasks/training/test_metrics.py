from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, brier_score_loss, confusion_matrix, log_loss, roc_auc_score

from tasks.training.card import Estimate
from tasks.training.metrics import UNKNOWN_CENTRE, Scores, area_under_curve, choose_threshold, split_metrics
from tasks.training.resampling import REPLICATES


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
    assert found.accuracy.value == accuracy_score(given.label, probability >= 0.5)
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


def test_confusion_brier_score_and_accuracy_are_those_of_scikit_learn_at_any_threshold() -> None:
    given = scores()
    found = split_metrics(given, split="test", seed=1, threshold=0.7, held_out=True)
    called = given.probability >= 0.7
    (true_negative, false_positive), (false_negative, true_positive) = confusion_matrix(given.label, called)
    assert found.confusion is not None
    assert found.confusion.model_dump(exclude={"sensitivity", "specificity"}) == {
        "true_positive": true_positive,
        "false_positive": false_positive,
        "true_negative": true_negative,
        "false_negative": false_negative,
    }
    assert found.accuracy.value == accuracy_score(given.label, called)
    assert found.confusion.sensitivity is not None
    assert found.confusion.sensitivity.value == true_positive / (true_positive + false_negative)
    assert found.confusion.specificity is not None
    assert found.confusion.specificity.value == true_negative / (true_negative + false_positive)
    assert found.calibration is not None
    assert found.calibration.brier.value == pytest.approx(brier_score_loss(given.label, given.probability))
    assert (found.held_out, found.threshold) == (True, 0.7)


def test_the_interval_is_what_drawing_the_patients_one_by_one_gives() -> None:
    """The quick bootstrap (sums by patient) against rows that are really repeated."""
    given = scores(patients=6)
    found = split_metrics(given, split="validation", seed=3).confusion
    generator = np.random.default_rng([3, 6])
    names = np.unique(given.patient)
    replicates = []
    for draw in generator.multinomial(6, np.full(6, 1 / 6), size=REPLICATES):
        drawn = np.repeat(names, draw)
        rows = np.concatenate([np.flatnonzero(given.patient == name) for name in drawn])
        tumour = rows[given.label[rows] == 1]
        replicates.append(np.mean(given.probability[tumour] >= 0.5))
    assert found is not None
    assert found.sensitivity is not None
    assert [found.sensitivity.low, found.sensitivity.high] == pytest.approx(np.percentile(replicates, [2.5, 97.5]))


def test_without_tumour_there_is_no_sensitivity_and_no_curve() -> None:
    given = scores()
    found = split_metrics(Scores(given.logit, np.zeros_like(given.label), given.patient, None), split="test", seed=0)
    assert found.confusion is not None
    assert found.confusion.sensitivity is None
    assert found.confusion.specificity is not None
    assert (found.auc, found.roc) == (None, None)


def test_centres_are_measured_each_with_its_own_patients() -> None:
    given = scores(rows=600, patients=12)
    centre = np.array([int(name[-3:]) % 3 for name in given.patient])
    # The second centre is another scanner: the same ranking, all logits lower.
    shifted = np.where(centre == 1, given.logit - 3, given.logit)
    by_centre = Scores(shifted, given.label, given.patient, np.where(centre == 2, UNKNOWN_CENTRE, centre))
    found = split_metrics(by_centre, split="validation", seed=1)
    assert [one.centre for one in found.centres] == [None, 0, 1]
    assert sum(one.rows for one in found.centres) == 600
    assert sum(one.patients for one in found.centres) == 12
    second = centre == 1
    own = split_metrics(Scores(shifted[second], given.label[second], given.patient[second]), split="test", seed=1)
    assert (found.centres[2].auc, found.centres[2].log_loss) == (own.auc, own.log_loss)
    aucs = [one.auc.value for one in found.centres if one.auc is not None]
    assert found.auc is not None
    # Each centre ranks well; over all, a threshold serves one of them only. The mean would hide it.
    assert found.auc.value == pytest.approx(roc_auc_score(given.label, shifted))
    assert found.auc.value < min(aucs)
    assert split_metrics(Scores(*vars(given).values()), split="test", seed=1).centres == ()


def test_the_threshold_is_chosen_by_the_validation_split_or_stated() -> None:
    separable = Scores(
        np.array([-2.0, -1.0, 3.0, 4.0]), np.array([0, 0, 1, 1], np.int8), np.array(["a", "b", "c", "d"])
    )
    chosen = choose_threshold(separable, "youden")
    assert chosen.rule == "youden"
    assert chosen.value == pytest.approx((1 / (1 + np.exp(1)) + 1 / (1 + np.exp(-3))) / 2)
    assert split_metrics(separable, split="validation", seed=0, threshold=chosen.value).accuracy.value == 1.0
    assert choose_threshold(separable, 0.9).model_dump() == {"value": 0.9, "rule": "stated"}
    one_class = Scores(separable.logit, np.ones_like(separable.label), separable.patient)
    for useless in (None, one_class):
        assert choose_threshold(useless, "youden").model_dump() == {"value": 0.5, "rule": "default"}


def test_extreme_logits_give_finite_figures() -> None:
    given = Scores(
        np.array([1e4, -1e4, 800.0, -800.0]), np.array([1, 0, 0, 1], np.int8), np.array(["a", "b", "a", "b"])
    )
    found = split_metrics(given, split="test", seed=0)
    assert given.probability.tolist() == [1.0, 0.0, 1.0, 0.0]
    assert found.calibration is not None
    assert found.calibration.brier == Estimate(value=0.5, low=0.5, high=0.5)
    assert found.calibration.expected_calibration_error == 0.5
