from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from tasks.train_config import TrainConfig
from tasks.training.loss import class_weights, patch_loss

LABEL = np.array([1, 1, 0, 0], np.float32)
LOGIT = np.array([2.0, -1.0, 0.5, -3.0], np.float32)


def test_cross_entropy_is_the_negative_log_of_the_right_classs_probability() -> None:
    right = 1 / (1 + np.exp(-np.where(LABEL == 1, LOGIT, -LOGIT)))
    for loss in ("class-weighted", "binary-cross-entropy"):
        found = patch_loss(TrainConfig(loss=loss))(tf.constant(LABEL), tf.constant(LOGIT))
        np.testing.assert_allclose(np.asarray(found), -np.log(right), rtol=1e-5)


@pytest.mark.parametrize("gamma", [0.0, 1.0, 2.0, 5.0])
def test_the_focal_loss_looks_away_from_easy_patches(gamma: float) -> None:
    right = 1 / (1 + np.exp(-np.where(LABEL == 1, LOGIT, -LOGIT)))
    found = patch_loss(TrainConfig(loss="focal", focal_gamma=gamma))(tf.constant(LABEL), tf.constant(LOGIT))
    np.testing.assert_allclose(np.asarray(found), -((1 - right) ** gamma) * np.log(right), rtol=1e-4)


def test_the_focal_loss_and_its_gradient_are_finite_for_very_sure_networks() -> None:
    logit = tf.Variable([200.0, -200.0, 0.0, 30.0])
    loss = patch_loss(TrainConfig(loss="focal"))
    with tf.GradientTape() as tape:
        total = tf.reduce_sum(loss(tf.constant([1.0, 1.0, 0.0, 0.0]), logit))
    assert np.isfinite(float(total))
    assert np.all(np.isfinite(np.asarray(tape.gradient(total, logit))))


def test_class_weights_give_both_classes_the_same_sum() -> None:
    label = np.array([1, 0, 0, 0], np.int8)
    assert class_weights(TrainConfig(), label).tolist() == pytest.approx([2 / 3, 2.0])
    assert class_weights(TrainConfig(loss="focal"), label).tolist() == [1.0, 1.0]
