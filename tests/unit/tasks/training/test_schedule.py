from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.train_config import TrainConfig
from tasks.training.schedule import LearningRate


def test_the_rate_warms_up_from_one_rank_to_all_and_decays_to_zero() -> None:
    rate = LearningRate(base=0.1, ranks=4, warmup_steps=10, steps=110)
    assert rate.at(0) == pytest.approx(0.13)
    assert rate.at(9) == pytest.approx(0.4)
    assert rate.at(10) == pytest.approx(0.4)
    assert rate.at(60) == pytest.approx(0.2)
    assert rate.at(110) == pytest.approx(0.0, abs=1e-12)


def test_without_warm_up_it_starts_at_the_scaled_rate() -> None:
    assert LearningRate(base=0.1, ranks=2, warmup_steps=0, steps=10).at(0) == pytest.approx(0.2)


@given(st.integers(1, 16), st.integers(0, 50), st.integers(1, 200))
def test_it_is_positive_in_training_and_never_above_the_scaled_rate(ranks: int, warmup: int, steps: int) -> None:
    rate = LearningRate(base=0.1, ranks=ranks, warmup_steps=warmup, steps=steps)
    rates = [rate.at(step) for step in range(steps)]
    assert all(0 < value <= 0.1 * ranks + 1e-12 for value in rates)
    after = rates[warmup:]
    assert after == sorted(after, reverse=True)


def test_a_rate_that_falls_in_steps() -> None:
    config = TrainConfig(
        learning_rate=0.1, epochs=10, warmup_epochs=1, decay="step", decay_epochs=(4, 8), decay_factor=0.5
    )
    rate = LearningRate.of(config, ranks=2, steps_per_epoch=100)
    assert rate.at(49) == pytest.approx(0.15)
    assert [rate.at(step) for step in (100, 399, 400, 799, 800, 999)] == pytest.approx([0.2, 0.2, 0.1, 0.1, 0.05, 0.05])


def test_a_rate_that_stays() -> None:
    rate = LearningRate.of(TrainConfig(learning_rate=0.1, epochs=3, decay="none"), ranks=2, steps_per_epoch=10)
    assert {rate.at(step) for step in range(30)} == {0.2}


def test_a_cosine_is_what_a_configuration_has_at_first() -> None:
    rate = LearningRate.of(TrainConfig(learning_rate=0.1, epochs=10), ranks=1, steps_per_epoch=10)
    assert rate == LearningRate(
        base=0.1, ranks=1, warmup_steps=0, steps=100, drops=None, factor=0.1, steps_per_epoch=10
    )
