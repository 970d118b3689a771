"""One training step and one scoring step, compiled once."""

from __future__ import annotations

from collections.abc import Callable

import horovod.tensorflow as hvd
import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from tasks.train_config import TrainConfig
from tasks.training.augment import PARAMETERS, apply_changes
from tasks.training.collective import tensors
from tasks.training.loss import patch_loss


def make_optimizer(config: TrainConfig, model: keras.Model) -> keras.optimizers.Optimizer:
    """Build the optimizer with all its state; the learning rate is set at every step."""
    rate = config.learning_rate
    match config.optimizer:
        case "adam":
            optimizer = keras.optimizers.Adam(rate)
        case "adamw":
            optimizer = keras.optimizers.AdamW(rate, weight_decay=config.weight_decay)
        case "lamb":
            optimizer = keras.optimizers.Lamb(rate, weight_decay=config.weight_decay or None)
        case "sgd":
            optimizer = keras.optimizers.SGD(rate, momentum=config.momentum, nesterov=config.momentum > 0)
    if config.precision == "float16":
        # Small gradients would become zero in half precision.
        optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
    optimizer.build(model.trainable_variables)
    return optimizer


def make_train_step(
    config: TrainConfig, model: keras.Model, optimizer: keras.optimizers.Optimizer
) -> Callable[..., tf.Tensor]:
    """Compile a step: change the patches, forward, backward, average over the ranks, update.

    Horovod averages gradients over ranks. So each rank's loss is the sum over its own patches, divided by the
    patches of all ranks and multiplied by the ranks: the average is the gradient of the joined batch, also
    when batches differ in size.

    Returns
    -------
    Callable
        ``step(pixels uint8 (n, p, p, 3), label float32 (n,), weight float32 (n,), changes float32 (n, 10),
        scale float32 ())`` → weighted sum of the loss of this rank's patches. `scale` is
        ranks / patches of all ranks; `changes` are left alone without ``train.augment``. Not compiled with XLA:
        Horovod has no kernels for it on CPUs.
    """
    losses = patch_loss(config)
    compression = hvd.Compression.fp16 if config.compression == "float16" else hvd.Compression.none
    side = model.input_shape[1]
    sources = tensors(model.trainable_variables)
    signature = [
        tf.TensorSpec((None, side, side, 3), tf.uint8),
        tf.TensorSpec((None,), tf.float32),
        tf.TensorSpec((None,), tf.float32),
        tf.TensorSpec((None, PARAMETERS), tf.float32),
        tf.TensorSpec((), tf.float32),
    ]

    @tf.function(input_signature=signature, jit_compile=False)
    def step(pixels: tf.Tensor, label: tf.Tensor, weight: tf.Tensor, changes: tf.Tensor, scale: tf.Tensor) -> tf.Tensor:
        with tf.GradientTape() as tape:
            patches = apply_changes(pixels, changes) if config.augment else tf.cast(pixels, tf.float32)
            logit = model(patches, training=True)[:, 0]
            total = tf.reduce_sum(weight * losses(label, logit))
            loss = optimizer.scale_loss(total * scale)
        gradients = hvd.DistributedGradientTape(tape, compression=compression).gradient(loss, sources)
        optimizer.apply(gradients, model.trainable_variables)
        return total

    compiled: Callable[..., tf.Tensor] = step
    return compiled


def make_score_step(model: keras.Model) -> Callable[[NDArray[np.uint8]], NDArray[np.float64]]:
    """Compile scoring: uint8 (n, p, p, 3) → logits float64 (n,)."""
    side = model.input_shape[1]

    @tf.function(input_signature=[tf.TensorSpec((None, side, side, 3), tf.uint8)], jit_compile=False)
    def score(pixels: tf.Tensor) -> tf.Tensor:
        return model(tf.cast(pixels, tf.float32), training=False)[:, 0]

    def logits(pixels: NDArray[np.uint8]) -> NDArray[np.float64]:
        return np.asarray(score(pixels), dtype=np.float64)

    return logits
