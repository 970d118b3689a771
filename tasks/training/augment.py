"""Random changes of patches that leave their label alone: the eight symmetries of the square, stain, and colour."""

from __future__ import annotations

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from tasks.train_config import TrainConfig

# Optical densities of haematoxylin, eosin and a residual stain in R, G, B (Ruifrok & Johnston 2001), rows of length 1.
_STAINS = np.array([[0.650, 0.704, 0.286], [0.072, 0.990, 0.105], [0.268, 0.570, 0.776]])
_STAINS /= np.linalg.norm(_STAINS, axis=1, keepdims=True)
# RGB, as rows, into luma and two axes of chroma (YIQ of NTSC television).
_YIQ = np.array([[0.299, 0.587, 0.114], [0.5959, -0.2746, -0.3213], [0.2115, -0.5227, 0.3112]]).T
PARAMETERS = 10


def draw_changes(config: TrainConfig, seed: int, *, epoch: int, rank: int, step: int, rows: int) -> NDArray[np.float32]:
    """Draw how each patch of a batch is changed, the same for the same arguments on every machine.

    Returns
    -------
    NDArray[np.float32]
        (rows, 10): transpose, flip rows, flip columns (0 or 1); factors of the haematoxylin, eosin and residual
        stain; added optical density; turn of the hue (radians); factors of saturation and brightness.
    """
    generator = np.random.default_rng([seed, epoch, rank, step])
    first, second, third = generator.integers(0, 2, (3, rows))
    match config.augment_flips, config.augment_turns:
        case True, True:
            symmetry = [first, second, third]
        case True, False:
            symmetry = [0 * first, second, third]
        case False, True:
            # A transposition and one flip are a quarter turn, two flips a half turn.
            symmetry = [first, first ^ second, second]
        case _:
            symmetry = [0 * first] * 3
    stain = generator.uniform(-1, 1, (3, rows)) * config.augment_stain + 1
    density, hue, saturation, brightness = generator.uniform(-1, 1, (4, rows))
    colour = [
        density * config.augment_density,
        hue * config.augment_hue * 2 * np.pi,
        saturation * config.augment_saturation + 1,
        brightness * config.augment_brightness + 1,
    ]
    return np.stack([*symmetry, *stain, *colour], axis=1).astype(np.float32)


def no_changes(rows: int) -> NDArray[np.float32]:
    """Parameters (rows, 10) that leave patches as they are."""
    return np.tile(np.array([0, 0, 0, 1, 1, 1, 0, 0, 1, 1], np.float32), (rows, 1))


def apply_changes(pixels: tf.Tensor, changes: tf.Tensor) -> tf.Tensor:
    """Change patches as drawn; part of the training graph, so that it runs where the step runs.

    Stains are scaled in optical density, ``-ln((x + 1) / 256)`` (Tellez et al. 2018). Hue and saturation are the
    angle and length of the chroma in YIQ.

    Parameters
    ----------
    pixels
        uint8 (n, p, p, 3), RGB.
    changes
        float32 (n, 10), see `draw_changes`.

    Returns
    -------
    tf.Tensor
        float32 (n, p, p, 3), RGB 0..255.
    """
    x = tf.cast(pixels, tf.float32)
    chosen = [changes[:, index, None, None, None] > 0.5 for index in range(3)]
    x = tf.where(chosen[0], tf.transpose(x, (0, 2, 1, 3)), x)
    x = tf.where(chosen[1], tf.reverse(x, [1]), x)
    x = tf.where(chosen[2], tf.reverse(x, [2]), x)
    # One 3 × 3 matrix a patch: into stains, scale, and back.
    density = -tf.math.log((x + 1.0) / 256.0)
    matrix = _between(_STAINS, tf.linalg.diag(changes[:, 3:6]))
    density = tf.einsum("nhwi,nik->nhwk", density, matrix) + changes[:, 6, None, None, None]
    x = 256.0 * tf.exp(-density) - 1.0
    x = tf.einsum("nhwi,nik->nhwk", x, _between(np.linalg.inv(_YIQ), _chroma(changes[:, 7:])))
    return tf.clip_by_value(x, 0.0, 255.0)


def _between(back: NDArray[np.float64], inner: tf.Tensor) -> tf.Tensor:
    """Give ``back⁻¹ · inner · back`` for each patch, (n, 3, 3)."""
    there, again = tf.constant(np.linalg.inv(back), tf.float32), tf.constant(back, tf.float32)
    return tf.einsum("ij,njk,kl->nil", there, inner, again)


def _chroma(colour: tf.Tensor) -> tf.Tensor:
    """Give the change of luma and chroma, as rows, of each patch: (n, 3) turn, saturation, brightness → (n, 3, 3)."""
    turn, saturation, brightness = tf.unstack(colour, axis=1)
    across, along = saturation * tf.sin(turn), saturation * tf.cos(turn)
    one, zero = tf.ones_like(turn), tf.zeros_like(turn)
    rows = [[one, zero, zero], [zero, along, across], [zero, -across, along]]
    change = tf.stack([tf.stack(row, axis=1) for row in rows], axis=1)
    return change * brightness[:, None, None]
