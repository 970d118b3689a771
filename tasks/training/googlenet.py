"""GoogLeNet: Inception v1 (Szegedy et al. 2015, Going Deeper with Convolutions, table 1 and figure 3)."""

from __future__ import annotations

from dataclasses import dataclass

import keras
from keras import layers

_EPSILON = 1e-3


@dataclass(frozen=True)
class Module:
    """One inception module: how many filters each of its branches has (the columns of the paper's table 1)."""

    name: str
    ones: int
    reduce_threes: int
    threes: int
    reduce_fives: int
    fives: int
    pooled: int

    @property
    def filters(self) -> int:
        """Filters of its output."""
        return self.ones + self.threes + self.fives + self.pooled


STAGES: tuple[tuple[Module, ...], ...] = (
    (
        Module("inception_3a", 64, 96, 128, 16, 32, 32),
        Module("inception_3b", 128, 128, 192, 32, 96, 64),
    ),
    (
        Module("inception_4a", 192, 96, 208, 16, 48, 64),
        Module("inception_4b", 160, 112, 224, 24, 64, 64),
        Module("inception_4c", 128, 128, 256, 24, 64, 64),
        Module("inception_4d", 112, 144, 288, 32, 64, 64),
        Module("inception_4e", 256, 160, 320, 32, 128, 128),
    ),
    (
        Module("inception_5a", 256, 160, 320, 32, 128, 128),
        Module("inception_5b", 384, 192, 384, 48, 128, 128),
    ),
)


def googlenet(patch: keras.KerasTensor) -> keras.KerasTensor:
    """Build the convolutional part: RGB 0..255 in, maps of 1024 filters at 1/32 of the side out.

    Batch normalisation (Ioffe & Szegedy 2015) stands in for the paper's local response normalisation and for
    its two auxiliary classifiers, which it makes unnecessary.
    """
    x = layers.Rescaling(1 / 127.5, offset=-1.0, name="scale")(patch)
    x = _convolution(x, 64, 7, "conv1", stride=2)
    x = layers.MaxPooling2D(3, 2, padding="same", name="pool1")(x)
    x = _convolution(x, 64, 1, "conv2_reduce")
    x = _convolution(x, 192, 3, "conv2")
    for number, modules in enumerate(STAGES, start=2):
        x = layers.MaxPooling2D(3, 2, padding="same", name=f"pool{number}")(x)
        for module in modules:
            x = _inception(x, module)
    return x


def _inception(x: keras.KerasTensor, module: Module) -> keras.KerasTensor:
    name = module.name
    threes = _convolution(x, module.reduce_threes, 1, f"{name}_3x3_reduce")
    fives = _convolution(x, module.reduce_fives, 1, f"{name}_5x5_reduce")
    pooled = layers.MaxPooling2D(3, 1, padding="same", name=f"{name}_pool")(x)
    branches = [
        _convolution(x, module.ones, 1, f"{name}_1x1"),
        _convolution(threes, module.threes, 3, f"{name}_3x3"),
        _convolution(fives, module.fives, 5, f"{name}_5x5"),
        _convolution(pooled, module.pooled, 1, f"{name}_pool_proj"),
    ]
    return layers.Concatenate(name=name)(branches)


def _convolution(x: keras.KerasTensor, filters: int, side: int, name: str, *, stride: int = 1) -> keras.KerasTensor:
    x = layers.Conv2D(filters, side, strides=stride, padding="same", use_bias=False, name=name)(x)
    x = layers.BatchNormalization(epsilon=_EPSILON, name=f"{name}_bn")(x)
    return layers.ReLU(name=f"{name}_relu")(x)
