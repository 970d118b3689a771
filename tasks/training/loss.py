"""The loss of each patch, before weights: what a network is punished for."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from tasks.train_config import TrainConfig

PatchLoss = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]


def patch_loss(config: TrainConfig) -> PatchLoss:
    """Give the function of (label, logit), both float32 (n,), to the loss of each patch, float32 (n,), in nats.

    The focal loss multiplies the cross-entropy by ``(1 - p)^gamma``, p being the probability of the right class
    (Lin et al. 2017).
    """
    if config.loss != "focal":
        return tf.nn.sigmoid_cross_entropy_with_logits  # type: ignore[no-any-return]  # TensorFlow has no types
    gamma = config.focal_gamma

    def focal(label: tf.Tensor, logit: tf.Tensor) -> tf.Tensor:
        entropy = tf.nn.sigmoid_cross_entropy_with_logits(label, logit)
        return tf.pow(1.0 - tf.exp(-entropy), gamma) * entropy

    return focal


def class_weights(config: TrainConfig, label: NDArray[np.int8]) -> NDArray[np.float32]:
    """Weight (2,) of the patches of each class; with ``class-weighted`` both classes have half of the sum of all."""
    if config.loss != "class-weighted":
        return np.ones(2, np.float32)
    share = np.bincount(label, minlength=2) / len(label)
    return (0.5 / share).astype(np.float32)
