"""Which pixels of a grid lie inside polygons, exactly."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import numpy.typing as npt

Points = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

# What is worked on at a time: pixels of a band of rows, and edges crossing rows. Both bound the memory.
_BAND_PX = 1 << 22
_CHUNK_CROSSINGS = 1 << 20


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
        paint_inside(mask, [points], value=True)
    return mask


def paint_inside(mask: Mask, rings: Sequence[Points], *, value: bool) -> None:
    """Set the pixels whose centre lies inside the first ring and inside none of the others (its own holes).

    Parameters
    ----------
    mask
        bool, shape (height, width); changed in place.
    rings
        float64 arrays (n, 2), as in `inside_any`.
    value
        What the pixels become.
    """
    outer, *inner = rings
    box = _box(outer, mask.shape)
    if box is None:
        return
    top, bottom, left, right = box
    region = mask[top:bottom, left:right]
    if not inner:
        _paint(region, outer, (top, left), value=value)
        return
    own = np.zeros(region.shape, bool)
    _paint(own, outer, (top, left), value=True)
    for ring in inner:
        _paint(own, ring, (top, left), value=False)
    region[own] = value


def _box(points: Points, shape: tuple[int, ...]) -> tuple[int, int, int, int] | None:
    """Rows `top` to `bottom` and columns `left` to `right` of the grid that the points may enclose."""
    top = max(0, math.floor(points[:, 1].min()))
    bottom = min(shape[0], math.ceil(points[:, 1].max()) + 1)
    left = max(0, math.floor(points[:, 0].min()))
    right = min(shape[1], math.ceil(points[:, 0].max()) + 1)
    return (top, bottom, left, right) if top < bottom and left < right else None


def _paint(region: Mask, points: Points, corner: tuple[int, int], *, value: bool) -> None:
    """Paint the inside of one ring into a part of the grid that begins at `corner` (row, column)."""
    box = _box(points - np.array(corner[::-1]), region.shape)
    if box is None:
        return
    top, bottom, left, right = box
    band = max(1, _BAND_PX // (right - left))
    for first in range(top, bottom, band):
        last = min(bottom, first + band)
        turns = np.zeros((last - first, right - left + 1), np.int32)
        for rows, x, direction in _crossings(points, corner[0] + first, corner[0] + last):
            # A crossing at x lets all centres j + 0.5 > x count one turn more; those left of the box count from its
            # edge.
            columns = np.clip(np.floor(x + 0.5).astype(np.int64) - corner[1], left, right) - left
            np.add.at(turns.reshape(-1), (rows - corner[0] - first) * turns.shape[1] + columns, direction)
        inside = np.cumsum(turns, axis=1, dtype=np.int32)[:, :-1] != 0
        region[first:last, left:right][inside] = value


def _crossings(
    points: Points, top: int, bottom: int
) -> Iterator[tuple[npt.NDArray[np.int64], npt.NDArray[np.float64], npt.NDArray[np.int32]]]:
    """Where the edges cross the horizontal lines through the pixel centres of rows `top` to `bottom`, in chunks.

    Yields row, x, and +1 for an edge that runs down or -1 for one that runs up.
    """
    start, end = points, np.roll(points, -1, axis=0)
    down = end[:, 1] > start[:, 1]
    # From the upper end to the lower one, so that two outlines that share an edge find the same x for it.
    upper, lower = np.where(down[:, None], start, end), np.where(down[:, None], end, start)
    # Half-open: a line through a corner crosses one of the two edges that meet there, or both or none at a tip.
    first = np.clip(np.ceil(upper[:, 1] - 0.5), top, bottom).astype(np.int64)
    count = np.clip(np.ceil(lower[:, 1] - 0.5), top, bottom).astype(np.int64) - first
    before = np.cumsum(count) - count
    total = int(count.sum())
    for begin in range(0, total, _CHUNK_CROSSINGS):
        crossing = np.arange(begin, min(total, begin + _CHUNK_CROSSINGS))
        edge = np.searchsorted(before, crossing, side="right") - 1
        rows = first[edge] + crossing - before[edge]
        (x, y), delta = upper[edge].T, (lower - upper)[edge]
        yield rows, x + (rows + 0.5 - y) / delta[:, 1] * delta[:, 0], np.where(down[edge], 1, -1).astype(np.int32)
