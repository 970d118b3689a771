"""Grad-CAM and Grad-CAM++: where in a patch a convolutional layer finds evidence for tumour."""

from __future__ import annotations

from dataclasses import dataclass

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from tasks.errors import InputError


@dataclass(frozen=True, slots=True)
class CamMaps:
    """Maps of some patches at the resolution of the layer that they come from.

    Attributes
    ----------
    gradcam, gradcam_plus_plus
        float32 (n, h, w), each normalised to a maximum of 1; a map without any evidence stays 0.
    logit
        float32 (n,), what the maps explain.
    """

    gradcam: NDArray[np.float32]
    gradcam_plus_plus: NDArray[np.float32]
    logit: NDArray[np.float32]


def gradcam(model: keras.Model, patches: NDArray[np.uint8], layer: str, *, batch_size: int = 16) -> CamMaps:
    """Explain the logit of each patch at one convolutional layer.

    With activations `A` (h, w, channels) and gradients `g = d logit / d A`:

    - Grad-CAM (Selvaraju et al. 2017): ``relu(sum_k mean(g_k) A_k)``;
    - Grad-CAM++ (Chattopadhay et al. 2018): ``relu(sum_k w_k A_k)`` with ``w_k = sum(alpha_k relu(g_k))`` and
      ``alpha_k = g_k² / (2 g_k² + sum(A_k) g_k³)``.

    The logit is explained, not the probability, whose gradient vanishes where the network is sure.

    Parameters
    ----------
    model
        Flat functional Keras model, RGB patches (n, H, W, 3) of 0..255 in, one logit (n, 1) out.
    patches
        uint8 (n, H, W, 3).
    layer
        Name of a layer of `model` with (n, h, w, channels) out.

    Raises
    ------
    InputError
        The model has no such convolutional layer, or its logit does not depend on it.
    """
    probe = keras.Model(model.inputs[0], [_cam_layer(model, layer).output, model.output])
    dtype = model.inputs[0].dtype

    @tf.function(input_signature=[tf.TensorSpec((None, *patches.shape[1:]), tf.uint8)])
    def maps(pixels: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        with tf.GradientTape() as tape:
            activation, logit = probe(tf.cast(pixels, dtype), training=False)
        gradient = tape.gradient(logit, activation)
        if gradient is None:
            raise InputError(f"layer {layer!r} has no influence on the logit", remedy=_layers(model))
        activation, gradient = tf.cast(activation, tf.float32), tf.cast(gradient, tf.float32)
        return _gradcam(activation, gradient), _gradcam_plus_plus(activation, gradient), logit[:, 0]

    batches = [maps(patches[start : start + batch_size]) for start in range(0, len(patches), batch_size)]
    if not batches:
        raise InputError("there is no patch to explain")
    plain, plus_plus, logit = (np.concatenate([part.numpy() for part in parts]) for parts in zip(*batches, strict=True))
    return CamMaps(normalised(plain), normalised(plus_plus), logit.astype(np.float32))


def normalised(maps: NDArray[np.float32]) -> NDArray[np.float32]:
    """Divide each non-negative map (n, h, w) by its maximum; a map that is 0 everywhere stays so."""
    highest = maps.max((1, 2), keepdims=True)
    scaled = np.zeros_like(maps)
    np.divide(maps, highest, out=scaled, where=highest > 0)
    return scaled


def to_image(maps: NDArray[np.float32], height_px: int, width_px: int) -> NDArray[np.float32]:
    """Enlarge maps (n, h, w) to (n, height_px, width_px), bilinear, and normalise them again."""
    enlarged = tf.image.resize(maps[..., None], (height_px, width_px), "bilinear")[..., 0]
    return normalised(np.asarray(enlarged, np.float32))


def convolutional_layers(model: keras.Model) -> list[str]:
    """Names of the layers of `model` that a map can be made at, in the order of the network."""
    kinds = (keras.layers.Conv2D, keras.layers.DepthwiseConv2D)
    return [layer.name for layer in model.layers if isinstance(layer, kinds)]


def _cam_layer(model: keras.Model, name: str) -> keras.layers.Layer:
    layer = next((layer for layer in model.layers if layer.name == name), None)
    if layer is None:
        raise InputError(f"the model has no layer {name!r}", subject="explain.layer", remedy=_layers(model))
    if isinstance(layer, keras.Model) or len(getattr(layer.output, "shape", ())) != 4:
        raise InputError(f"layer {name!r} gives no spatial map", subject="explain.layer", remedy=_layers(model))
    return layer


def _layers(model: keras.Model) -> str:
    return f"choose one of: {', '.join(convolutional_layers(model))}"


def _gradcam(activation: tf.Tensor, gradient: tf.Tensor) -> tf.Tensor:
    weight = tf.reduce_mean(gradient, (1, 2), keepdims=True)
    return tf.nn.relu(tf.reduce_sum(weight * activation, -1))


def _gradcam_plus_plus(activation: tf.Tensor, gradient: tf.Tensor) -> tf.Tensor:
    squared = gradient**2
    denominator = 2 * squared + tf.reduce_sum(activation, (1, 2), keepdims=True) * gradient**3
    alpha = tf.math.divide_no_nan(squared, denominator)
    weight = tf.reduce_sum(alpha * tf.nn.relu(gradient), (1, 2), keepdims=True)
    return tf.nn.relu(tf.reduce_sum(weight * activation, -1))
