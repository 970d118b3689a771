"""The networks that can be trained, by name; what is known of each without building it (paper section 3.6)."""

from __future__ import annotations

import difflib
from dataclasses import dataclass

from tasks.errors import InputError


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


_CENTRED = "in graph: RGB to BGR, ImageNet channel means subtracted"
_SYMMETRIC = "in graph: x / 127.5 - 1"
_STANDARD = "in graph: x / 255, ImageNet channel means subtracted, divided by ImageNet standard deviations"


def _densenet(depth: int, blocks: tuple[int, int], millions: float) -> Architecture:
    return Architecture(
        name=f"DenseNet{depth}",
        native_px=224,
        min_px=32,
        cam_layers=(f"conv3_block{blocks[0]}_concat", f"conv4_block{blocks[1]}_concat", "relu"),
        preprocessing=_STANDARD,
        description=f"densely connected network of {depth} layers, {millions} million parameters",
    )


_KNOWN = (
    Architecture(
        name="ResNet50",
        native_px=224,
        min_px=32,
        cam_layers=("conv3_block4_out", "conv4_block6_out", "conv5_block3_out"),
        preprocessing=_CENTRED,
        description="residual network of 50 layers, 23.6 million parameters (the paper's)",
    ),
    Architecture(
        name="ResNet101",
        native_px=224,
        min_px=32,
        cam_layers=("conv3_block4_out", "conv4_block23_out", "conv5_block3_out"),
        preprocessing=_CENTRED,
        description="residual network of 101 layers, 42.7 million parameters (the paper's)",
    ),
    Architecture(
        name="GoogLeNet",
        native_px=224,
        min_px=32,
        cam_layers=("inception_3b", "inception_4e", "inception_5b"),
        preprocessing=_SYMMETRIC,
        description="Inception v1 with batch normalisation, 6.0 million parameters (the paper's)",
    ),
    Architecture(
        name="InceptionV3",
        native_px=299,
        min_px=75,
        cam_layers=("mixed2", "mixed7", "mixed10"),
        preprocessing=_SYMMETRIC,
        description="factorised inception modules, 21.8 million parameters (the paper's)",
    ),
    _densenet(121, (12, 24), 7.0),
    _densenet(169, (12, 32), 12.6),
    _densenet(201, (12, 48), 18.3),
    Architecture(
        name="InceptionResNetV2",
        native_px=299,
        min_px=75,
        cam_layers=("mixed_5b", "mixed_6a", "conv_7b_ac"),
        preprocessing=_SYMMETRIC,
        description="inception modules with residual connections, 54.3 million parameters (the paper's)",
    ),
    Architecture(
        name="EfficientNetB0",
        native_px=224,
        min_px=32,
        cam_layers=("block3b_add", "block5c_add", "top_activation"),
        preprocessing="in graph: x / 255, ImageNet channel means subtracted, divided by ImageNet variances",
        description="mobile inverted bottlenecks with attention to channels, 4.0 million parameters",
    ),
    Architecture(
        name="MobileNetV2",
        native_px=224,
        min_px=32,
        cam_layers=("block_6_expand_relu", "block_13_expand_relu", "out_relu"),
        preprocessing=_SYMMETRIC,
        description="depthwise separable convolutions, 2.3 million parameters",
    ),
    Architecture(
        name="CamNetSmall",
        native_px=96,
        min_px=32,
        cam_layers=("stage2_relu2", "stage3_relu2"),
        preprocessing=_SYMMETRIC,
        description="seven convolutions, 0.2 million parameters, for machines without a GPU",
    ),
)
ARCHITECTURES: dict[str, Architecture] = {known.name: known for known in _KNOWN}


def architecture_named(name: str) -> Architecture:
    """Return the architecture called `name`, or raise an `InputError` with the nearest names."""
    if name in ARCHITECTURES:
        return ARCHITECTURES[name]
    folded = {known.lower(): known for known in ARCHITECTURES}
    near = [folded[match] for match in difflib.get_close_matches(name.lower(), folded, n=2, cutoff=0.5)]
    raise InputError(f"no architecture is called {name!r}", remedy=f"use {' or '.join(near or ARCHITECTURES)}")
