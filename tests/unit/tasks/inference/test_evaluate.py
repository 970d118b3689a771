import numpy as np
import pytest

from tasks.inference.evaluate import evaluate, patch_auc, slide_score
from tasks.inference.scores import Scores
from tests.services.scored_slide import grid_corners, lesion_fraction, make_scores

X, Y = grid_corners()


def tumour_slide(patient: str, seed: int, slide: str = "") -> Scores:
    random = np.random.default_rng(seed)
    fraction = lesion_fraction(X, Y)
    label = np.where(fraction >= 0.5, 1, np.where(fraction == 0, 0, -1)).astype(np.int8)
    probability = np.clip(0.2 + 0.6 * fraction + random.normal(0, 0.15, len(X)), 0, 1)
    return make_scores(X, Y, probability, label=label, patient=patient, slide=slide or f"{patient}_node_0")


def negative_slide(patient: str, seed: int) -> Scores:
    probability = np.clip(np.random.default_rng(seed).normal(0.2, 0.1, len(X)), 0, 1)
    label = np.zeros(len(X), np.int8)
    return make_scores(X, Y, probability, label=label, patient=patient, slide=f"{patient}_node_1", truth="negative")


def test_a_cohort_is_measured_by_patch_and_by_slide() -> None:
    slides = [tumour_slide(f"patient_{n:03}", n) for n in range(4)]
    slides += [negative_slide(f"patient_{n:03}", n) for n in range(4, 8)]
    found = evaluate(slides, slide_quantile=0.99, seed=0, resamples=200)
    assert found.labelled_patches == sum(int((scores.label >= 0).sum()) for scores in slides)
    assert (found.labelled_slides, found.patients) == (8, 8)
    assert found.slide_auc.value == 1.0
    assert found.patch_auc.value is not None
    assert found.patch_auc.low is not None
    assert found.patch_auc.high is not None
    assert 0.9 < found.patch_auc.low <= found.patch_auc.value <= found.patch_auc.high <= 1
    counts = found.patch_confusion.model_dump()
    assert sum(counts.values()) == found.labelled_patches
    positive = np.concatenate([scores.label == 1 for scores in slides])
    called = np.concatenate([scores.probability >= 0.5 for scores in slides])
    assert counts["true_positive"] == int((positive & called).sum())
    assert counts["false_negative"] == int((positive & ~called).sum())
    assert found.slide_confusion.true_positive == 4
    assert found.slide_confusion.true_negative == 4


def test_patches_without_a_label_and_slides_without_truth_do_not_count() -> None:
    known = [tumour_slide("patient_000", 0), negative_slide("patient_001", 1)]
    unknown = make_scores(
        X, Y, np.ones(len(X)), label=np.full(len(X), -1, np.int8), patient="patient_002", slide="x", truth="unknown"
    )
    assert evaluate(known, slide_quantile=0.9, seed=0, resamples=100) == evaluate(
        [*known, unknown], slide_quantile=0.9, seed=0, resamples=100
    )


def test_one_class_gives_a_reason_and_no_figure() -> None:
    found = evaluate([negative_slide("patient_001", 1)], slide_quantile=0.99, seed=0)
    assert found.patch_auc.value is None
    assert found.patch_auc.reason == f"all {len(X)} labelled patches are normal"
    assert found.slide_auc.reason == "all 1 labelled slides are normal"
    assert patch_auc(negative_slide("patient_001", 1)) is None
    nothing = evaluate([], slide_quantile=0.99, seed=0)
    assert nothing.patch_auc.reason == "no patches with a known label"
    assert nothing.patients == 0


def test_the_slide_score_is_a_quantile_of_the_patches() -> None:
    probability = np.linspace(0, 1, 101, dtype=np.float32)
    assert slide_score(probability, 0.99) == pytest.approx(0.99)
    assert slide_score(probability, 1) == 1
    # A lesion in a fiftieth of the tissue is seen; a single wrong patch in a thousand is not.
    small_lesion, one_wrong = np.zeros(1000, np.float32), np.zeros(1000, np.float32)
    small_lesion[:20], one_wrong[0] = 0.9, 0.9
    assert slide_score(small_lesion, 0.99) == pytest.approx(0.9)
    assert slide_score(one_wrong, 0.99) == 0
