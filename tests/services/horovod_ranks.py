"""What the ranks of the Horovod tests run: ``python horovod_ranks.py FOLDER`` leaves FOLDER/rank-K.npz.

Every rank has data and first weights of its own, so that nothing is equal by accident.
"""

from __future__ import annotations

import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import horovod.keras as hvd_keras
import horovod.tensorflow as hvd
import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from tasks.train_config import TrainConfig
from tasks.training import collective
from tasks.training.augment import no_changes
from tasks.training.metrics import Scores, area_under_curve
from tasks.training.step import make_optimizer, make_train_step

SIDE_PX = 16
RATE = 0.05
# Uneven on purpose: ranks with batches of different sizes must still give the joined gradient.
BATCH_ROWS = (5, 3)


def plain_network(seed: int) -> keras.Model:
    """Build a network without batch normalisation, whose gradient is a plain sum over the rows."""
    patch = keras.Input((SIDE_PX, SIDE_PX, 3), name="patch")
    scaled = keras.layers.Rescaling(1 / 255, name="scale")(patch)
    first = keras.initializers.GlorotUniform(seed=seed)
    features = keras.layers.Conv2D(4, 3, activation="relu", name="conv", kernel_initializer=first)(scaled)
    pooled = keras.layers.GlobalAveragePooling2D(name="pool")(features)
    logit = keras.layers.Dense(1, name="logit", kernel_initializer=keras.initializers.GlorotUniform(seed + 1))(pooled)
    return keras.Model(patch, logit)


def normalised_network(seed: int) -> keras.Model:
    """Build a network with batch normalisation."""
    patch = keras.Input((SIDE_PX, SIDE_PX, 3), name="patch")
    kernel = keras.initializers.GlorotUniform(seed)
    x = keras.layers.Conv2D(4, 3, name="conv", kernel_initializer=kernel)(patch)
    x = keras.layers.BatchNormalization(name="norm", momentum=0.5)(x)
    x = keras.layers.GlobalAveragePooling2D(name="pool")(x)
    return keras.Model(patch, keras.layers.Dense(1, name="logit", kernel_initializer=kernel)(x))


def batch_of(rank: int) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Data of one rank."""
    generator = np.random.default_rng([7, rank])
    pixels = generator.integers(0, 256, (BATCH_ROWS[rank], SIDE_PX, SIDE_PX, 3), dtype=np.uint8)
    return pixels, generator.integers(0, 2, BATCH_ROWS[rank]).astype(np.float32)


def logits_of(rank: int) -> NDArray[np.float64]:
    """Scores of one rank; ranks have different numbers of them, and the same ones as other ranks."""
    return np.round(np.random.default_rng([8, rank]).normal(size=(20, 31)[rank]), 1)


def main(folder: Path) -> None:
    """Run all measurements of one rank."""
    hvd.init()
    found = {**_gradients(), **_three_steps(), **_skipped(), **_fit(), **_statistics(), **_scores(), **_unequal()}
    np.savez(folder / f"rank-{hvd.rank()}.npz", **found)
    hvd.shutdown()


# Parts of 2 and 3 rows on the first rank, of 1 and 2 on the second; and more parts than there are rows.
WAYS: dict[str, dict[str, Any]] = {
    "whole": {},
    "parts": {"accumulate_steps": 2},
    "rows": {"accumulate_steps": 64},
    "compiled": {"accumulate_steps": 2, "xla": True},
}


def _gradients() -> dict[str, Any]:
    """Gradients of `tasks.training.step`, made visible by one step of plain descent."""
    return {
        f"gradient_{way}_{k}": gradient
        for way, config in WAYS.items()
        for k, gradient in enumerate(_descend(1, **config)[1])
    }


def _three_steps() -> dict[str, Any]:
    return {f"weights_{k}": w for k, w in enumerate(_descend(3)[0])}


def _descend(steps: int, **config: object) -> tuple[list[NDArray[np.float32]], list[NDArray[np.float32]]]:
    model = plain_network(seed=10 + hvd.rank())
    optimizer = keras.optimizers.SGD(RATE)
    optimizer.build(model.trainable_variables)
    collective.broadcast_state(model, optimizer)
    before = model.get_weights()
    step = make_train_step(TrainConfig.model_validate(config), model, optimizer)
    pixels, label = batch_of(hvd.rank())
    scale = tf.constant(hvd.size() / sum(BATCH_ROWS), tf.float32)
    for _ in range(steps):
        step(pixels, label, np.ones_like(label), no_changes(len(label)), scale)
    after = model.get_weights()
    return after, [(b - a) / RATE for a, b in zip(after, before, strict=True)]


def _skipped() -> dict[str, Any]:
    """Take a step that is not finite on rank 1 alone, and then a good one."""
    model = normalised_network(seed=3)
    config = TrainConfig(skip_steps=1)
    optimizer = make_optimizer(config, model)
    step = make_train_step(config, model, optimizer)
    pixels, label = batch_of(hvd.rank())
    scale = tf.constant(hvd.size() / sum(BATCH_ROWS), tf.float32)
    states = [[variable.numpy() for variable in (*model.variables, *optimizer.variables)]]
    used = []
    for bad in (True, False):
        weight = np.full_like(label, np.inf if bad and hvd.rank() == 1 else 1)
        used.append(bool(step(pixels, label, weight, no_changes(len(label)), scale)[1]))
        states.append([variable.numpy() for variable in (*model.variables, *optimizer.variables)])
    changed = [
        not all(np.array_equal(one, other) for one, other in zip(*pair, strict=True)) for pair in pairwise(states)
    ]
    return {"skip_used": used, "skip_changed": changed, "skip_finite": all(np.all(np.isfinite(v)) for v in states[-1])}


def _fit() -> dict[str, Any]:
    """Train with Keras's own ``fit``, where unpatched Horovod does not average and raises nothing."""
    model = plain_network(seed=3)
    model.compile(hvd_keras.DistributedOptimizer(keras.optimizers.Adam(0.01)), keras.losses.BinaryCrossentropy(True))
    pixels, label = batch_of(hvd.rank())
    model.fit(pixels[:3].astype(np.float32), label[:3], epochs=3, batch_size=3, verbose=0)
    return {f"fit_{k}": w for k, w in enumerate(model.get_weights())}


def _statistics() -> dict[str, Any]:
    model = normalised_network(seed=3)
    model(batch_of(hvd.rank())[0].astype(np.float32), training=True)
    own = model.get_layer("norm").moving_mean.numpy()
    collective.average_statistics(model)
    return {"own_mean": own, "joint_mean": model.get_layer("norm").moving_mean.numpy()}


def _scores() -> dict[str, Any]:
    own = logits_of(hvd.rank())
    label = (own > np.median(own)) ^ (np.arange(len(own)) % 3 == 0)
    joined = Scores(
        collective.gather(own), collective.gather(label.astype(np.int8)), np.repeat("p", len(collective.gather(own)))
    )
    empty = own[:0] if hvd.rank() == 0 else own
    return {
        "own_logit": own,
        "own_label": label,
        "auc": area_under_curve(joined),
        "one_sided": collective.gather(empty),
        "total": collective.total([1.5, hvd.rank()]),
    }


def _unequal() -> dict[str, Any]:
    model = plain_network(seed=3)
    same = collective.unequal_ranks(model)
    if hvd.rank() == 1:
        bias = model.get_layer("logit").bias
        bias.assign(np.nextafter(bias.numpy(), np.float32(1)))
    return {"unequal_before": same, "unequal_after": collective.unequal_ranks(model)}


if __name__ == "__main__":
    main(Path(sys.argv[1]))
