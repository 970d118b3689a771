"""Random changes of patches that leave their label alone: the eight symmetries of the square and the stain."""

from __future__ import annotations

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

# Optical densities of haematoxylin, eosin and a residual stain in R, G, B (Ruifrok & Johnston 2001), rows of length 1.
_STAINS = np.array([[0.650, 0.704, 0.286], [0.072, 0.990, 0.105], [0.268, 0.570, 0.776]])
_STAINS /= np.linalg.norm(_STAINS, axis=1, keepdims=True)
_STAIN_RANGE = 0.15
_DENSITY_RANGE = 0.05
PARAMETERS = 7


def draw_changes(seed: int, *, epoch: int, rank: int, step: int, rows: int) -> NDArray[np.float32]:
    """Draw how each patch of a batch is changed, the same for the same arguments on every machine.

    Returns
    -------
    NDArray[np.float32]
        (rows, 7): transpose, flip rows, flip columns (0 or 1); factors of the haematoxylin, eosin and
        residual stain (0.85 to 1.15); added optical density (-0.05 to 0.05).
    """
    generator = np.random.default_rng([seed, epoch, rank, step, PARAMETERS])
    symmetry = generator.integers(0, 2, (rows, 3))
    stain = generator.uniform(1 - _STAIN_RANGE, 1 + _STAIN_RANGE, (rows, 3))
    density = generator.uniform(-_DENSITY_RANGE, _DENSITY_RANGE, (rows, 1))
    return np.concatenate([symmetry, stain, density], axis=1).astype(np.float32)


def no_changes(rows: int) -> NDArray[np.float32]:
    """Parameters (rows, 7) that leave patches as they are."""
    return np.tile(np.array([0, 0, 0, 1, 1, 1, 0], np.float32), (rows, 1))


def apply_changes(pixels: tf.Tensor, changes: tf.Tensor) -> tf.Tensor:
    """Change patches as drawn; part of the training graph, so that it runs where the step runs.

    Stains are scaled in optical density, ``-ln((x + 1) / 256)`` (Tellez et al. 2018).

    Parameters
    ----------
    pixels
        uint8 (n, p, p, 3), RGB.
    changes
        float32 (n, 7), see `draw_changes`.

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
    to_stains = tf.constant(np.linalg.inv(_STAINS), tf.float32)
    from_stains = tf.constant(_STAINS, tf.float32)
    # One 3 × 3 matrix a patch: into stains, scale, and back.
    matrix = tf.einsum("ij,nj,jk->nik", to_stains, changes[:, 3:6], from_stains)
    density = -tf.math.log((x + 1.0) / 256.0)
    density = tf.einsum("nhwi,nik->nhwk", density, matrix) + changes[:, 6, None, None, None]
    return tf.clip_by_value(256.0 * tf.exp(-density) - 1.0, 0.0, 255.0)
