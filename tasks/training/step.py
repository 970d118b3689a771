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
from tasks.training.collective import average_gradients, tensors
from tasks.training.lars import Lars
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
        case "lars":
            optimizer = Lars(rate, momentum=config.momentum, decay=config.weight_decay)
        case "sgd":
            optimizer = keras.optimizers.SGD(rate, momentum=config.momentum, nesterov=config.momentum > 0)
    if config.precision == "float16":
        # Small gradients would become zero in half precision.
        optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
    optimizer.build(model.trainable_variables)
    return optimizer


def make_train_step(
    config: TrainConfig, model: keras.Model, optimizer: keras.optimizers.Optimizer
) -> Callable[..., tuple[tf.Tensor, tf.Tensor]]:
    """Compile a step: change the patches, forward, backward, average over the ranks, update.

    Horovod averages gradients over ranks. So each rank's loss is the sum over its own patches, divided by the
    patches of all ranks and multiplied by the ranks: the average is the gradient of the joined batch, also
    when batches differ in size. With ``accumulate_steps`` a rank goes through its batch in so many parts and adds
    their gradients up, which gives the same, before they are averaged once.

    Returns
    -------
    Callable
        ``step(pixels uint8 (n, p, p, 3), label float32 (n,), weight float32 (n,), changes float32 (n, 10),
        scale float32 ())`` → float32 (n,), the loss of each of this rank's patches before its weight, and whether the
        step was used. `scale` is ranks / patches of all ranks; `changes` are left alone without ``train.augment``. With
        ``xla`` forward and backward are compiled; the averaging stays outside, because Horovod has no kernels for XLA
        on CPUs. With ``skip_steps`` a step whose averaged gradients are not finite changes nothing, on no rank.
    """
    compression = hvd.Compression.fp16 if config.compression == "float16" else hvd.Compression.none
    side = model.input_shape[1]
    part = _part_gradients(config, model, optimizer)
    sources = tensors(model.trainable_variables)
    parts = config.accumulate_steps
    statistics = tensors(model.non_trainable_variables)
    signature = [
        tf.TensorSpec((None, side, side, 3), tf.uint8),
        tf.TensorSpec((None,), tf.float32),
        tf.TensorSpec((None,), tf.float32),
        tf.TensorSpec((None, PARAMETERS), tf.float32),
        tf.TensorSpec((), tf.float32),
    ]

    @tf.function(input_signature=signature, jit_compile=False)
    def step(
        pixels: tf.Tensor, label: tf.Tensor, weight: tf.Tensor, changes: tf.Tensor, scale: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        before = [tf.identity(one) for one in statistics] if config.skip_steps else []
        if parts == 1:
            loss, gradients = part(pixels, label, weight, changes, scale)
        else:
            loss, gradients = _accumulated(part, sources, parts, (pixels, label, weight, changes), scale)
        gradients = average_gradients(gradients, compression)
        if not config.skip_steps:
            optimizer.apply(gradients, model.trainable_variables)
            return loss, tf.constant(True)
        # What is not finite on one rank is not finite in the average, so that all ranks decide alike.
        used = tf.reduce_all([tf.reduce_all(tf.math.is_finite(gradient)) for gradient in gradients])
        if used:
            optimizer.apply(gradients, model.trainable_variables)
        else:
            for variable, value in zip(statistics, before, strict=True):
                variable.assign(value)
        return loss, used

    compiled: Callable[..., tuple[tf.Tensor, tf.Tensor]] = step
    return compiled


def _part_gradients(
    config: TrainConfig, model: keras.Model, optimizer: keras.optimizers.Optimizer
) -> Callable[..., tuple[tf.Tensor, list[tf.Tensor]]]:
    """Make the function of a (part of a) batch to its losses and this rank's gradients, as the optimizer wants them."""
    losses, sources = patch_loss(config), tensors(model.trainable_variables)

    def part(
        pixels: tf.Tensor, label: tf.Tensor, weight: tf.Tensor, changes: tf.Tensor, scale: tf.Tensor
    ) -> tuple[tf.Tensor, list[tf.Tensor]]:
        with tf.GradientTape() as tape:
            patches = apply_changes(pixels, changes) if config.augment else tf.cast(pixels, tf.float32)
            logit = model(patches, training=True)[:, 0]
            loss = losses(label, logit)
            total = optimizer.scale_loss(tf.reduce_sum(weight * loss) * scale)
        return loss, tape.gradient(total, sources)

    if not config.xla:
        return part
    compiled: Callable[..., tuple[tf.Tensor, list[tf.Tensor]]] = tf.function(part, jit_compile=True)
    return compiled


def _accumulated(
    part: Callable[..., tuple[tf.Tensor, list[tf.Tensor]]],
    sources: list[tf.Variable],
    parts: int,
    batch: tuple[tf.Tensor, ...],
    scale: tf.Tensor,
) -> tuple[tf.Tensor, list[tf.Tensor]]:
    """Add up the gradients of the parts of a batch, which differ by one patch at most; none is empty."""
    rows = tf.shape(batch[0])[0]
    parts = tf.minimum(parts, rows)

    def add(
        index: tf.Tensor, losses: tf.TensorArray, sums: list[tf.Tensor]
    ) -> tuple[tf.Tensor, tf.TensorArray, list[tf.Tensor]]:
        own = slice(index * rows // parts, (index + 1) * rows // parts)
        loss, gradients = part(*(array[own] for array in batch), scale)
        return index + 1, losses.write(index, loss), [one + other for one, other in zip(sums, gradients, strict=True)]

    no_losses = tf.TensorArray(tf.float32, size=parts, element_shape=(None,), infer_shape=False)
    first = (tf.constant(0), no_losses, [tf.zeros_like(source) for source in sources])
    # One part at a time, or the memory of all would be needed at once.
    _, losses, sums = tf.while_loop(lambda index, *_: index < parts, add, first, parallel_iterations=1)
    return losses.concat(), sums


def make_score_step(model: keras.Model) -> Callable[[NDArray[np.uint8]], NDArray[np.float64]]:
    """Compile scoring: uint8 (n, p, p, 3) → logits float64 (n,)."""
    side = model.input_shape[1]

    @tf.function(input_signature=[tf.TensorSpec((None, side, side, 3), tf.uint8)], jit_compile=False)
    def score(pixels: tf.Tensor) -> tf.Tensor:
        return model(tf.cast(pixels, tf.float32), training=False)[:, 0]

    def logits(pixels: NDArray[np.uint8]) -> NDArray[np.float64]:
        return np.asarray(score(pixels), dtype=np.float64)

    return logits
