"""The networks, by name: flat graphs from raw RGB patches to one logit (paper section 3.6)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import keras
import numpy as np
from keras import layers

from tasks.errors import InputError
from tasks.training.architectures import architecture_named
from tasks.training.backbone_weights import load_backbone_weights
from tasks.training.networks import DEVIATIONS, MEANS, backbone

INPUT_NAME = "patch_rgb"
LOGIT_NAME = "tumour_logit"
POOL_NAME = "average_pool"
# keras.applications take 0.99 or 0.999: with the few hundred steps of a small cohort, validation would
# still run on the statistics of the first random batches.
_BATCH_NORM_MOMENTUM = 0.9
Head = Literal["pooled", "dense"]
HEAD_WIDTHS: dict[Head, Sequence[int]] = {"pooled": (), "dense": (2048, 512, 256)}


def build(
    architecture: str,
    patch_px: int,
    *,
    seed: int = 0,
    weights: Path | None = None,
    weights_digest: str | None = None,
    head: Head = "pooled",
    dropout: float = 0.0,
) -> keras.Model:
    """Build a network: RGB patches in, one logit out.

    The model is flat (every inner layer is reachable with ``get_layer``) and its preprocessing is part
    of the graph, so that training, inference and explanations cannot treat pixels differently.

    Parameters
    ----------
    architecture
        A name in `ARCHITECTURES`.
    patch_px
        Side of the square patches.
    seed
        Of the first weights. They are drawn with NumPy: the same on every machine, and no global
        generator is touched.
    weights
        ``.weights.h5`` or ``.h5`` file of the backbone (without its classifier); None leaves the first weights.
    weights_digest
        ``sha256:…`` that this file must have.
    head
        ``pooled``: one logit from the mean of the maps; ``dense``: dense layers of 2048, 512 and 256 between
        them, as in the paper's tool.
    dropout
        Share of what goes into each dense layer, the logit's among them, that is dropped while training.

    Returns
    -------
    keras.Model
        Input (N, patch_px, patch_px, 3), uint8 or float32, RGB 0..255; output (N, 1) float32, the
        logit of "tumour".

    Raises
    ------
    InputError
        The name is unknown, the patch is too small, or the weights file does not fit.
    IntegrityError
        The weights file is not the one that `weights_digest` names.
    """
    known = architecture_named(architecture)
    if patch_px < known.min_px:
        raise InputError(
            f"{known.name} needs patches of at least {known.min_px} px, not {patch_px}",
            remedy="set preprocess.patch_px higher or choose another architecture",
        )
    patch = layers.Input((patch_px, patch_px, 3), dtype="float32", name=INPUT_NAME)
    features = backbone(known.name)(patch)
    x = layers.GlobalAveragePooling2D(name=POOL_NAME)(features)
    for width in HEAD_WIDTHS[head]:
        x = _dropped(x, dropout)
        x = layers.Dense(width, activation="relu", name=f"head_{width}")(x)
    x = _dropped(x, dropout)
    model = keras.Model(patch, layers.Dense(1, name=LOGIT_NAME, dtype="float32")(x), name=known.name)
    _draw_first_weights(model, seed)
    if weights is not None:
        convolutions = keras.Model(patch, features)
        load_backbone_weights(convolutions, weights, architecture=known.name, digest=weights_digest)
    _standardise(model)
    return model


def _dropped(x: keras.KerasTensor, dropout: float) -> keras.KerasTensor:
    return layers.Dropout(dropout)(x) if dropout else x


def _standardise(model: keras.Model) -> None:
    """Give EfficientNet's first layer the ImageNet statistics.

    Its published files have standard deviations where variances belong, which Keras mends by a further layer
    for its own weights alone.
    """
    for layer in model.layers:
        if isinstance(layer, layers.Normalization):
            layer.adapt_mean.assign(np.array(MEANS, np.float32))
            layer.adapt_variance.assign(np.square(DEVIATIONS).astype(np.float32))
            layer.finalize_state()


def _draw_first_weights(model: keras.Model, seed: int) -> None:
    """He-normal kernels (He et al. 2015), a near-zero classifier and seeds of dropout, each from its own generator."""
    for index, layer in enumerate(model.layers):
        if isinstance(layer, layers.Dropout):
            # Keras draws these anew in each process.
            layer.seed_generator.state.assign([np.random.default_rng([seed, index]).integers(2**31), 0])
        if isinstance(layer, layers.BatchNormalization):
            layer.momentum = _BATCH_NORM_MOMENTUM
        if not hasattr(layer, "kernel"):
            continue
        shape = tuple(layer.kernel.shape)
        depthwise = isinstance(layer, layers.DepthwiseConv2D)
        fan_in = int(np.prod(shape[:2] if depthwise else shape[:-1]))
        scale = 0.01 if layer.name == LOGIT_NAME else float(np.sqrt(2.0 / fan_in))
        kernel = np.random.default_rng([seed, index]).standard_normal(shape, dtype=np.float32) * np.float32(scale)
        layer.kernel.assign(kernel)
