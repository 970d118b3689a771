from __future__ import annotations

from typing import Literal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.train_config import TrainConfig
from tasks.training.draws import epoch_draws

labels = st.tuples(st.integers(1, 60), st.integers(1, 60), st.integers(0, 9)).map(
    lambda drawn: np.random.default_rng(drawn[2]).permutation(np.repeat([0, 1], drawn[:2])).astype(np.int8)
)


@given(labels, st.integers(0, 3))
def test_oversampling_repeats_the_smaller_class_evenly(label: np.typing.NDArray[np.int8], epoch: int) -> None:
    draws = epoch_draws(TrainConfig(class_balance="oversample"), label, seed=1, epoch=epoch)
    assert np.all(np.diff(draws) >= 0)
    times = np.bincount(draws, minlength=len(label))
    sizes = np.bincount(label, minlength=2)
    assert np.bincount(label[draws], minlength=2).tolist() == [sizes.max()] * 2
    for value in (0, 1):
        of_class = times[label == value]
        assert of_class.max() - of_class.min() <= 1
    assert np.all(times[label == np.argmax(sizes)] == 1)


@given(labels, st.integers(0, 3))
def test_undersampling_takes_each_patch_once_at_most(label: np.typing.NDArray[np.int8], epoch: int) -> None:
    draws = epoch_draws(TrainConfig(class_balance="undersample"), label, seed=1, epoch=epoch)
    assert np.all(np.diff(draws) > 0)
    sizes = np.bincount(label, minlength=2)
    assert np.bincount(label[draws], minlength=2).tolist() == [sizes.min()] * 2


@pytest.mark.parametrize("balance", ["oversample", "undersample"])
def test_what_is_drawn_depends_on_seed_and_epoch_alone(balance: Literal["oversample", "undersample"]) -> None:
    config, label = TrainConfig(class_balance=balance), np.repeat([0, 1], [500, 130]).astype(np.int8)
    first = epoch_draws(config, label, seed=1, epoch=1)
    assert np.array_equal(first, epoch_draws(config, label, seed=1, epoch=1))
    for seed, epoch in ((2, 1), (1, 2)):
        other = epoch_draws(config, label, seed=seed, epoch=epoch)
        assert len(other) == len(first)
        assert not np.array_equal(other, first)


def test_without_balance_each_patch_comes_once() -> None:
    draws = epoch_draws(TrainConfig(), np.array([1, 0, 0], np.int8), seed=1, epoch=1)
    assert draws.tolist() == [0, 1, 2]
