import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from tasks.auc import area_under_curve, auc_with_interval

CASES = st.lists(st.tuples(st.booleans(), st.integers(0, 5), st.sampled_from("ABCD")), min_size=2, max_size=60)


@given(CASES)
def test_the_area_is_that_of_scikit_learn_with_ties(cases: list[tuple[bool, int, str]]) -> None:
    labels = np.array([label for label, _, _ in cases], np.int8)
    values = np.array([value for _, value, _ in cases], np.float64)
    area = area_under_curve(labels, values)
    if len(set(labels.tolist())) < 2:
        assert area is None
    else:
        assert area == pytest.approx(roc_auc_score(labels, values), abs=1e-12)


def test_the_interval_is_that_of_resampling_whole_patients() -> None:
    random = np.random.default_rng(7)
    groups = np.repeat([f"patient_{n:03}" for n in range(12)], 40)
    shift = np.repeat(random.normal(0, 1.0, 12), 40)
    labels = (random.random(480) < 0.4).astype(np.int8)
    values = np.round(labels + shift + random.normal(0, 1, 480), 1)
    found = auc_with_interval(labels, values, groups, what="patches", seed=3, resamples=300)
    # The same draws, done the long way: rows of the drawn patients copied as often as they were drawn.
    areas = []
    for weights in np.random.default_rng(3).multinomial(12, np.full(12, 1 / 12), size=300):
        rows = np.concatenate([np.tile(np.arange(p * 40, p * 40 + 40), n) for p, n in enumerate(weights)])
        areas.append(roc_auc_score(labels[rows], values[rows]))
    assert found.value == pytest.approx(roc_auc_score(labels, values))
    assert (found.low, found.high) == pytest.approx(tuple(np.quantile(areas, [0.025, 0.975])))
    assert found.reason is None


def test_patients_that_differ_widen_the_interval() -> None:
    random = np.random.default_rng(1)
    labels = np.tile([0, 1], 300).astype(np.int8)
    values = labels + np.repeat(random.normal(0, 1.5, 10), 60) + random.normal(0, 0.5, 600)
    by_patient = auc_with_interval(labels, values, np.repeat(np.arange(10).astype(str), 60), what="patches", seed=0)
    by_patch = auc_with_interval(labels, values, np.arange(600).astype(str), what="patches", seed=0, resamples=300)
    assert by_patient.low is not None
    assert by_patient.high is not None
    assert by_patch.low is not None
    assert by_patch.high is not None
    assert by_patient.high - by_patient.low > 1.5 * (by_patch.high - by_patch.low)


def test_the_same_seed_gives_the_same_interval() -> None:
    labels, values = np.tile([0, 1], 20).astype(np.int8), np.random.default_rng(0).random(40)
    groups = np.repeat(np.arange(8).astype(str), 5)
    runs = [auc_with_interval(labels, values, groups, what="patches", seed=seed) for seed in (4, 4, 5)]
    assert runs[0] == runs[1]
    assert runs[0] != runs[2]


@pytest.mark.parametrize(
    ("labels", "patients", "value", "reason"),
    [
        ([], [], None, "no slides with a known label"),
        ([1, 1, 1], ["a", "b", "c"], None, "all 3 labelled slides are tumour"),
        ([0, 0], ["a", "b"], None, "all 2 labelled slides are normal"),
        ([0, 1, 1], ["a", "a", "a"], 1.0, "no interval: all slides are of one patient"),
        ([0, 1], ["a", "b"], 1.0, None),
    ],
)
def test_what_cannot_be_said_is_not_said(
    labels: list[int], patients: list[str], value: float | None, reason: str | None
) -> None:
    found = auc_with_interval(
        np.array(labels, np.int8), np.arange(len(labels), dtype=float), np.array(patients), what="slides", seed=0
    )
    assert found.value == value
    if reason is None:
        # One patient of each class: half of the draws hold one class only.
        assert (found.low is None) == (found.reason is not None)
    else:
        assert found.reason == reason
        assert found.low is None
        assert found.high is None
