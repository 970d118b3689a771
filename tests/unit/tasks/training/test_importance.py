from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from pydantic import ValidationError

from tasks.importance_config import ImportanceConfig
from tasks.train_config import TrainConfig
from tasks.training.draws import epoch_draws
from tasks.training.importance import Draws, even_draws, importance_draws, relative_rates, systematic_counts
from tasks.training.measures import Measures, gradient_bound, renewed

Floats = NDArray[np.float64]

configs = st.builds(
    ImportanceConfig,
    by=st.just("loss"),
    max_ratio=st.floats(1, 20),
    uniform_share=st.floats(0, 1),
    correction=st.floats(0, 1),
)
measures = st.lists(st.one_of(st.just(float("nan")), st.just(0.0), st.floats(1e-6, 50.0)), min_size=1, max_size=60).map(
    lambda found: np.array(found, np.float32)
)


def expected_counts(rate: Floats) -> Floats:
    """Mean of the counts over all offsets in [0, 1), exactly: between two break points they do not change."""
    ends = np.cumsum(rate) * (len(rate) / rate.sum())
    breaks = np.unique(np.concatenate([[0.0, 1.0], 1.0 - ends % 1.0]))
    middle, length = (breaks[1:] + breaks[:-1]) / 2, np.diff(breaks)
    counts = np.array([systematic_counts(rate, float(offset)) for offset in middle])
    mean: Floats = length @ counts
    return mean


@given(measures, configs)
def test_rates_have_the_mean_one_and_keep_their_bounds(measure: NDArray[np.float32], config: ImportanceConfig) -> None:
    rate = relative_rates(measure, config)
    assert rate.mean() == pytest.approx(1.0, abs=1e-9)
    # What is drawn with probability p = rate / n.
    assert (rate / len(rate)).sum() == pytest.approx(1.0, abs=1e-9)
    assert rate.min() >= 1 / config.max_ratio - 1e-12
    assert rate.max() <= config.max_ratio + 1e-12
    assert rate.min() >= config.uniform_share - 1e-12


@given(measures, configs)
def test_a_row_with_a_larger_measure_is_never_drawn_less(
    measure: NDArray[np.float32], config: ImportanceConfig
) -> None:
    rate = relative_rates(measure, config)
    known = np.flatnonzero(np.isfinite(measure))
    order = known[np.argsort(measure[known], kind="stable")]
    assert np.all(np.diff(rate[order]) >= -1e-12)


def test_rates_follow_the_measure_in_proportion_between_the_bounds() -> None:
    rate = relative_rates(
        np.array([0.5, 1.0, 1.5], np.float32), ImportanceConfig(by="loss", max_ratio=10, uniform_share=0)
    )
    assert rate.tolist() == pytest.approx([0.5, 1.0, 1.5])
    half = relative_rates(
        np.array([0.5, 1.0, 1.5], np.float32), ImportanceConfig(by="loss", max_ratio=10, uniform_share=0.5)
    )
    assert half.tolist() == pytest.approx([0.75, 1.0, 1.25])


def test_rows_that_were_not_seen_come_as_the_mean_and_without_measures_all_do() -> None:
    config = ImportanceConfig(by="loss", max_ratio=10, uniform_share=0)
    nan = float("nan")
    assert relative_rates(np.array([nan, 1.0, 3.0], np.float32), config).tolist() == pytest.approx([1.0, 0.5, 1.5])
    for even in ([nan, nan], [0.0, 0.0], [2.0, 2.0]):
        assert relative_rates(np.array(even, np.float32), config).tolist() == pytest.approx([1.0, 1.0])


@given(st.lists(st.floats(0.05, 20.0), min_size=1, max_size=12).map(np.array), st.floats(0, 1, exclude_max=True))
def test_counts_are_the_whole_numbers_around_the_rates_and_their_sum_is_kept(rate: Floats, offset: float) -> None:
    counts = systematic_counts(rate, offset)
    expected = rate * (len(rate) / rate.sum())
    assert counts.sum() == len(rate)
    assert np.all(np.abs(counts - expected) < 1 + 1e-9)
    assert np.all(counts >= 0)


@given(st.lists(st.floats(0.05, 20.0), min_size=1, max_size=8).map(np.array))
def test_over_all_offsets_each_row_is_drawn_as_often_as_its_rate(rate: Floats) -> None:
    assert expected_counts(rate) == pytest.approx(rate * (len(rate) / rate.sum()), abs=1e-9)


@given(measures, configs, st.integers(0, 5))
def test_the_weighted_sum_over_the_draws_is_unbiased(
    measure: NDArray[np.float32], config: ImportanceConfig, seed: int
) -> None:
    config = config.model_copy(update={"correction": 1.0})
    rate = relative_rates(measure, config)
    weight = rate**-config.correction
    value = np.random.default_rng(seed).normal(size=len(measure))
    # Sum over the rows of expected count × weight × value: what the gradient of an epoch is on average.
    assert expected_counts(rate) * weight @ value == pytest.approx(value.sum(), abs=1e-6)


@given(measures, configs)
def test_a_weaker_correction_is_biased_by_no_more_than_its_bound(
    measure: NDArray[np.float32], config: ImportanceConfig
) -> None:
    rate = relative_rates(measure, config)
    share = expected_counts(rate) * rate**-config.correction
    bound = config.max_ratio ** (1 - config.correction)
    assert share.min() >= 1 / bound - 1e-6
    assert share.max() <= bound + 1e-6


def draws_of(
    config: TrainConfig, label: NDArray[np.int8], measure: NDArray[np.float32], *, seed: int = 1, epoch: int = 2
) -> tuple[NDArray[np.int64], Draws]:
    base = epoch_draws(config, label, seed=seed, epoch=epoch)
    stratum = label if config.class_balance != "none" else np.zeros_like(label)
    return base, importance_draws(config.importance, base, measure, stratum, seed=seed, epoch=epoch)


labels = st.tuples(st.integers(1, 40), st.integers(1, 40), st.integers(0, 9)).map(
    lambda drawn: np.random.default_rng(drawn[2]).permutation(np.repeat([0, 1], drawn[:2])).astype(np.int8)
)


@given(labels, st.sampled_from(["none", "oversample", "undersample"]), st.integers(0, 3))
def test_an_epoch_keeps_its_length_and_its_balance(label: NDArray[np.int8], balance: str, seed: int) -> None:
    config = TrainConfig.model_validate({"class_balance": balance, "importance": {"by": "loss"}})
    measure = np.random.default_rng(seed).exponential(size=len(label)).astype(np.float32)
    base, draws = draws_of(config, label, measure, seed=seed)
    assert len(draws.rows) == len(base)
    assert np.all(np.diff(draws.rows) >= 0)
    assert set(draws.rows.tolist()) <= set(base.tolist())
    assert draws.distinct == len(set(draws.rows.tolist()))
    if balance != "none":
        assert np.bincount(label[draws.rows]).tolist() == np.bincount(label[base]).tolist()
    assert draws.weight.shape == label.shape
    assert draws.weight[base].max() <= config.importance.max_ratio * (1 + 1e-6)
    assert draws.weight[base].min() >= (1 - 1e-6) / config.importance.max_ratio


def test_repeated_rows_of_a_balanced_epoch_stay_unbiased_too() -> None:
    label = np.array([1, 0, 0, 0, 0, 0, 0, 0], np.int8)
    config = TrainConfig.model_validate(
        {"class_balance": "oversample", "importance": {"by": "loss", "max_ratio": 8, "uniform_share": 0}}
    )
    measure = np.array([1, 8, 1, 1, 1, 1, 1, 1], np.float32)
    total = np.zeros(len(label))
    for seed in range(400):
        base, draws = draws_of(config, label, measure, seed=seed)
        total += np.bincount(draws.rows, minlength=len(label)) * draws.weight
    assert np.bincount(base, minlength=len(label)).tolist() == [7, 1, 1, 1, 1, 1, 1, 1]
    assert total / 400 == pytest.approx([7, 1, 1, 1, 1, 1, 1, 1], abs=0.15)


def test_draws_depend_on_seed_epoch_and_measures_alone() -> None:
    label = np.repeat([0, 1], [300, 200]).astype(np.int8)
    measure = np.random.default_rng(0).exponential(size=500).astype(np.float32)
    config = TrainConfig.model_validate({"importance": {"by": "loss"}})
    _, first = draws_of(config, label, measure)
    _, same = draws_of(config, label, measure)
    assert np.array_equal(first.rows, same.rows)
    assert np.array_equal(first.weight, same.weight)
    for other in (draws_of(config, label, measure, seed=2), draws_of(config, label, measure, epoch=3)):
        assert not np.array_equal(first.rows, other[1].rows)


def test_hard_rows_come_more_often_and_the_variance_falls() -> None:
    label = np.tile([0, 1], 500).astype(np.int8)
    measure = np.where(np.arange(1000) < 100, 2.0, 0.1).astype(np.float32)
    config = TrainConfig.model_validate({"importance": {"by": "loss"}})
    _, draws = draws_of(config, label, measure)
    counts = np.bincount(draws.rows, minlength=1000)
    assert counts[:100].mean() > 2.5
    assert counts[100:].mean() < 0.9
    assert draws.variance_ratio < 0.5
    assert even_draws(np.arange(1000), 1000).variance_ratio == 1.0


def test_the_bound_of_the_gradient_is_the_distance_of_probability_and_label() -> None:
    logit, label = np.array([-3.0, 0.0, 2.0, 30.0]), np.array([1, 0, 1, 0])
    probability = 1 / (1 + np.exp(-logit))
    entropy = np.log1p(np.exp(np.where(label == 1, -logit, logit))).astype(np.float32)
    assert gradient_bound(entropy) == pytest.approx(np.abs(probability - label), abs=1e-6)


def test_averages_move_where_a_row_was_seen() -> None:
    average = np.array([1.0, np.nan, 2.0, np.nan], np.float32)
    # Sums in parts of 2^-20: 3 + 1 seen twice, 0.5 once.
    seen = np.array([[4 << 20, 1 << 19, 0, 0], [2, 1, 0, 0]])
    assert renewed(average, seen, 0.75).tolist() == pytest.approx([1.25, 0.5, 2.0, np.nan], nan_ok=True)
    assert average.tolist() == pytest.approx([1.0, np.nan, 2.0, np.nan], nan_ok=True)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"importance": {"by": "gradient"}, "loss": "focal"}, "is of the cross-entropy"),
        ({"importance": {"by": "loss", "uniform_epochs": 10}}, "fewer than epochs"),
        ({"importance": {"by": "loss", "max_ratio": 0.5}}, "greater than or equal to 1"),
    ],
)
def test_importance_that_cannot_be_is_refused(changes: dict[str, object], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        TrainConfig.model_validate(changes)


def test_rows_that_come_later_are_unmeasured_at_first_and_change_no_others() -> None:
    config = TrainConfig.model_validate({"importance": {"by": "loss", "uniform_epochs": 1}})
    label = np.array([0, 1, 0, 1], np.int8)
    measures = Measures(config, label[:2], seed=3)
    state: list[NDArray[Any]] = [np.array([0.5, 2.0], np.float32), np.array([[3 << 20, 0], [1, 0]], np.int64)]
    measures.restore(state, first_rank=True)
    measures.extend(label)
    measures.add(np.array([0, 3]), np.array([1.0, 0.25], np.float32), np.ones(2, np.float32))
    assert measures._average.tolist() == pytest.approx([0.5, 2.0, np.nan, np.nan], nan_ok=True)
    assert measures._seen.tolist() == [[4 << 20, 0, 0, 1 << 18], [2, 0, 0, 1]]
    assert measures.draws(1).rows.tolist() == [0, 1, 2, 3]
    assert len(measures.draws(2).rows) == 4
    other = Measures(config, label[:2], seed=3)
    other.restore(state, first_rank=False)
    assert other._seen.sum() == 0


def test_without_importance_nothing_is_kept() -> None:
    measures = Measures(TrainConfig(), np.array([0, 1], np.int8), seed=3)
    measures.add(np.array([0]), np.ones(1, np.float32), np.ones(1, np.float32))
    measures.extend(np.array([0, 1, 1], np.int8))
    assert measures.draws(7).rows.tolist() == [0, 1, 2]
    assert measures.draws(7).weight.tolist() == [1.0, 1.0, 1.0]
    assert measures.row(measures.draws(7)) == {}
