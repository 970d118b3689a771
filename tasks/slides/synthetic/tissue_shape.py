"""Pieces of tissue on glass."""

from __future__ import annotations

import cv2
import numpy as np

from tasks.slides.synthetic.noise import Field, smooth_noise


def tissue_height(rng: np.random.Generator, shape: tuple[int, int], cell_um: float) -> Field:
    """Draw the shape of the tissue as a height field: positive inside, about 1 per 100 µm of depth near the edge.

    One large piece with a lobed, ragged edge and up to two small ones.

    Parameters
    ----------
    rng
        Source of chance.
    shape
        (rows, columns) of the grid.
    cell_um
        Step of the grid.
    """
    rows, columns = shape
    side_um = min(shape) * cell_um
    y, x = np.mgrid[:rows, :columns].astype(np.float32)
    height = np.full(shape, -1e3, np.float32)
    pieces = [(rng.uniform(0.45, 0.55, 2), rng.uniform(0.33, 0.41))]
    for _ in range(int(rng.integers(0, 3))):
        angle = rng.uniform(0, 2 * np.pi)
        pieces.append((0.5 + 0.42 * np.array([np.cos(angle), np.sin(angle)]), rng.uniform(0.06, 0.12)))
    for (centre_x, centre_y), size in pieces:
        squeeze = rng.uniform(0.85, 1.15)
        distance = np.hypot((x - centre_x * columns) / columns * squeeze, (y - centre_y * rows) / rows / squeeze)
        height = np.maximum(height, (size - distance) * side_um / 100).astype(np.float32)
    lobes = smooth_noise(rng, shape, 0.22 * side_um / cell_um) * 0.035 * side_um / 100
    rags = smooth_noise(rng, shape, 60 / cell_um) * 0.16 + smooth_noise(rng, shape, 18 / cell_um) * 0.08
    field: Field = (height + lobes + rags).astype(np.float32)
    return field


def depth_um(inside: Field, cell_um: float) -> Field:
    """Distance from the edge of the tissue, 0 outside."""
    distance = cv2.distanceTransform((inside > 0).astype(np.uint8), cv2.DIST_L2, 5)
    field: Field = (distance * cell_um).astype(np.float32)
    return field
