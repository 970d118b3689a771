"""The networks, by name: flat graphs from raw RGB patches to one logit (paper section 3.6)."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
from keras import layers

from tasks.errors import InputError
from tasks.training.backbone_weights import load_backbone_weights

INPUT_NAME = "patch_rgb"
LOGIT_NAME = "tumour_logit"
# keras.applications take 0.99 or 0.999: with the few hundred steps of a small cohort, validation would
# still run on the statistics of the first random batches.
_BATCH_NORM_MOMENTUM = 0.9


@dataclass(frozen=True)
class Architecture:
    """One network that can be trained.

    Attributes
    ----------
    name
        What configurations and model cards call it.
    native_px
        Side of the patches that it was designed for.
    min_px
        Smallest side that it takes.
    cam_layers
        Convolutional layers that explanations may look at, fine to coarse; the last is the default.
    preprocessing
        What the first layers of the graph do with RGB values 0..255.
    description
        One line for lists.
    """

    name: str
    native_px: int
    min_px: int
    cam_layers: tuple[str, ...]
    preprocessing: str
    description: str

    @property
    def cam_layer(self) -> str:
        """The layer that explanations look at by default."""
        return self.cam_layers[-1]


_KNOWN = (
    Architecture(
        name="ResNet50",
        native_px=224,
        min_px=32,
        cam_layers=("conv3_block4_out", "conv4_block6_out", "conv5_block3_out"),
        preprocessing="in graph: RGB to BGR, ImageNet channel means subtracted",
        description="residual network of 50 layers, 23.6 million parameters (the paper's)",
    ),
    Architecture(
        name="MobileNetV2",
        native_px=224,
        min_px=32,
        cam_layers=("block_6_expand_relu", "block_13_expand_relu", "out_relu"),
        preprocessing="in graph: x / 127.5 - 1",
        description="depthwise separable convolutions, 2.3 million parameters",
    ),
    Architecture(
        name="CamNetSmall",
        native_px=96,
        min_px=32,
        cam_layers=("stage2_relu2", "stage3_relu2"),
        preprocessing="in graph: x / 127.5 - 1",
        description="seven convolutions, 0.2 million parameters, for machines without a GPU",
    ),
)
ARCHITECTURES: dict[str, Architecture] = {known.name: known for known in _KNOWN}


def build(
    architecture: str,
    patch_px: int,
    *,
    seed: int = 0,
    weights: Path | None = None,
    weights_digest: str | None = None,
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
    features = _BACKBONES[known.name](patch)
    pooled = layers.GlobalAveragePooling2D(name="average_pool")(features)
    model = keras.Model(patch, layers.Dense(1, name=LOGIT_NAME, dtype="float32")(pooled), name=known.name)
    _draw_first_weights(model, seed)
    if weights is not None:
        backbone = keras.Model(patch, features)
        load_backbone_weights(backbone, weights, architecture=known.name, digest=weights_digest)
    return model


def architecture_named(name: str) -> Architecture:
    """Return the architecture called `name`, or raise an `InputError` with the nearest names."""
    if name in ARCHITECTURES:
        return ARCHITECTURES[name]
    folded = {known.lower(): known for known in ARCHITECTURES}
    near = [folded[match] for match in difflib.get_close_matches(name.lower(), folded, n=2, cutoff=0.5)]
    raise InputError(f"no architecture is called {name!r}", remedy=f"use {' or '.join(near or ARCHITECTURES)}")


def _resnet50(patch: keras.KerasTensor) -> keras.KerasTensor:
    bgr = keras.ops.flip(patch, axis=-1)
    centred = layers.Rescaling(1.0, offset=[-103.939, -116.779, -123.68], name="imagenet_means")(bgr)
    return keras.applications.ResNet50(include_top=False, weights=None, input_tensor=centred).output


def _mobilenet_v2(patch: keras.KerasTensor) -> keras.KerasTensor:
    scaled = layers.Rescaling(1 / 127.5, offset=-1.0, name="scale")(patch)
    return keras.applications.MobileNetV2(include_top=False, weights=None, input_tensor=scaled).output


def _camnet_small(patch: keras.KerasTensor) -> keras.KerasTensor:
    x = layers.Rescaling(1 / 127.5, offset=-1.0, name="scale")(patch)
    x = _convolution(x, 16, stride=2, stage="stem", index="")
    for stage, filters in (("stage1", 32), ("stage2", 64), ("stage3", 96)):
        # The last stage keeps its resolution: nuclei are a few pixels wide and maps should still show them.
        x = _convolution(x, filters, stride=1 if stage == "stage3" else 2, stage=stage, index="1")
        x = _convolution(x, filters, stride=1, stage=stage, index="2")
    return x


def _convolution(x: keras.KerasTensor, filters: int, *, stride: int, stage: str, index: str) -> keras.KerasTensor:
    name = f"{stage}_conv{index}"
    x = layers.Conv2D(filters, 3, strides=stride, padding="same", use_bias=False, name=name)(x)
    x = layers.BatchNormalization(name=f"{stage}_bn{index}")(x)
    return layers.ReLU(name=f"{stage}_relu{index}")(x)


_BACKBONES: dict[str, Callable[[keras.KerasTensor], keras.KerasTensor]] = {
    "ResNet50": _resnet50,
    "MobileNetV2": _mobilenet_v2,
    "CamNetSmall": _camnet_small,
}


def _draw_first_weights(model: keras.Model, seed: int) -> None:
    """He-normal kernels (He et al. 2015) and a near-zero classifier, each layer from its own generator."""
    for index, layer in enumerate(model.layers):
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
