"""The convolutional part of each network, its preprocessing included: RGB 0..255 in, maps out."""

from __future__ import annotations

from collections.abc import Callable

import keras
from keras import layers

from tasks.training.googlenet import googlenet

Backbone = Callable[[keras.KerasTensor], keras.KerasTensor]
# Of ImageNet, in RGB, for values 0..1; what the published weights of DenseNet were trained with.
MEANS = (0.485, 0.456, 0.406)
DEVIATIONS = (0.229, 0.224, 0.225)


def backbone(name: str) -> Backbone:
    """Return what builds the convolutional part of the network called `name` (see `ARCHITECTURES`)."""
    own: dict[str, Backbone] = {"GoogLeNet": googlenet, "CamNetSmall": _camnet_small}
    return own[name] if name in own else lambda patch: _published(name, patch)


def _published(name: str, patch: keras.KerasTensor) -> keras.KerasTensor:
    make = getattr(keras.applications, name)
    return make(include_top=False, weights=None, input_tensor=_preprocessed(name, patch)).output


def _preprocessed(name: str, patch: keras.KerasTensor) -> keras.KerasTensor:
    """Do what the weights that Keras publishes for this network were trained with."""
    if name.startswith("ResNet"):
        bgr = keras.ops.flip(patch, axis=-1)
        return layers.Rescaling(1.0, offset=[-103.939, -116.779, -123.68], name="imagenet_means")(bgr)
    if name.startswith("DenseNet"):
        scale = [1 / 255 / deviation for deviation in DEVIATIONS]
        offset = [-mean / deviation for mean, deviation in zip(MEANS, DEVIATIONS, strict=True)]
        return layers.Rescaling(scale, offset=offset, name="imagenet_standard")(patch)
    if name.startswith("EfficientNet"):
        return patch  # its first layers scale
    return layers.Rescaling(1 / 127.5, offset=-1.0, name="scale")(patch)


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
