from __future__ import annotations

import keras
import numpy as np
import pytest

from tasks.training import loop
from tasks.training.metrics import Scores


def scores(*logit: float) -> Scores:
    """Scores of two tumour and two normal patches."""
    return Scores(np.array(logit), np.array([1, 1, 0, 0], np.int8), np.array(["a", "b", "a", "b"]))


@pytest.fixture
def model() -> keras.Model:
    """One weight, which tells the epoch."""
    return keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, use_bias=False)])


def best_epoch(model: keras.Model, epochs: list[Scores | None]) -> tuple[int, float]:
    """Epoch that is kept, and the weight that is kept with it."""
    best = loop._Best()
    for epoch, found in enumerate(epochs, start=1):
        model.set_weights([np.full((1, 1), epoch, np.float32)])
        loop._keep_best(best, model, epoch, found)
    assert best.weights is not None
    return best.epoch, float(best.weights[0].item())


def test_the_highest_auc_is_kept_with_its_weights(model: keras.Model) -> None:
    poor, good = scores(1, -1, 0, -2), scores(2, 1, -1, -2)
    assert best_epoch(model, [poor, good, poor]) == (2, 2.0)


def test_equal_aucs_are_decided_by_the_loss(model: keras.Model) -> None:
    sure, unsure = scores(4, 3, -3, -4), scores(0.2, 0.1, -0.1, -0.2)
    assert best_epoch(model, [unsure, sure, unsure]) == (2, 2.0)
    assert best_epoch(model, [sure, sure]) == (1, 1.0)


def test_without_validation_the_last_epoch_is_kept(model: keras.Model) -> None:
    assert best_epoch(model, [None, None, None]) == (3, 3.0)
