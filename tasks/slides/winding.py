"""Which pixels of a grid lie inside polygons, exactly."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

Points = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]


def inside_any(polygons: Iterable[Points], shape: tuple[int, int]) -> Mask:
    """Mark the pixels whose centre lies inside at least one polygon.

    Inside means a winding number other than zero: an outline that crosses itself, as drawings by hand do, has
    no void where it overlaps. ``cv2.fillPoly`` is not used because it also paints every pixel that the
    outline touches.

    Parameters
    ----------
    polygons
        float64 arrays (n, 2): x, y in pixels of the grid; pixel (row i, column j) has its centre at
        (j + 0.5, i + 0.5).
    shape
        (height, width) of the grid.

    Returns
    -------
    numpy.ndarray
        bool, `shape`.
    """
    mask = np.zeros(shape, bool)
    for points in polygons:
        _mark_inside(points, mask)
    return mask


def _mark_inside(points: Points, mask: Mask) -> None:
    """Set what lies inside one polygon, working in its bounding box only."""
    height, width = mask.shape
    top = max(0, math.floor(points[:, 1].min()))
    bottom = min(height, math.ceil(points[:, 1].max()) + 1)
    left = max(0, math.floor(points[:, 0].min()))
    right = min(width, math.ceil(points[:, 0].max()) + 1)
    if top >= bottom or left >= right:
        return
    rows, x, direction = _crossings(points, top, bottom)
    # A crossing at x lets all centres j + 0.5 > x count one turn more; those left of the box count from its edge.
    columns = np.clip(np.floor(x + 0.5).astype(np.int64), left, right) - left
    turns = np.zeros((bottom - top, right - left + 1), np.int32)
    np.add.at(turns, (rows - top, columns), direction)
    mask[top:bottom, left:right] |= np.cumsum(turns, axis=1)[:, :-1] != 0


def _crossings(
    points: Points, top: int, bottom: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64], npt.NDArray[np.int32]]:
    """Where the edges cross the horizontal lines through the pixel centres of rows `top` to `bottom`.

    Returns row, x, and +1 for an edge that runs down or -1 for one that runs up.
    """
    start, end = points, np.roll(points, -1, axis=0)
    low, high = np.minimum(start[:, 1], end[:, 1]), np.maximum(start[:, 1], end[:, 1])
    # Half-open: a line through a corner crosses one of the two edges that meet there, or both or none at a tip.
    first = np.clip(np.ceil(low - 0.5), top, bottom).astype(np.int64)
    last = np.clip(np.ceil(high - 0.5), top, bottom).astype(np.int64)
    count = last - first
    edge = np.repeat(np.arange(len(points)), count)
    rows = first[edge] + np.arange(len(edge)) - np.repeat(np.cumsum(count) - count, count)
    begin, delta = start[edge], (end - start)[edge]
    x = begin[:, 0] + (rows + 0.5 - begin[:, 1]) / delta[:, 1] * delta[:, 0]
    return rows, x, np.where(delta[:, 1] > 0, 1, -1).astype(np.int32)
