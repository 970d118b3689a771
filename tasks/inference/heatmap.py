"""From patch scores to a map (paper section 3.7): a grid of scores, and its interpolation for display."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tasks.errors import InputError
from tasks.inference.scores import Scores


@dataclass(frozen=True, slots=True)
class ScoreGrid:
    """Patch scores on the regular grid that they were cut from.

    Attributes
    ----------
    values
        float32 (rows, columns); NaN where no patch was analysed (background, edges).
    x_centre_level0_px, y_centre_level0_px
        Centre of the patch of cell (0, 0) in the frame of level 0. A value belongs to the centre of its
        patch, not to its corner.
    stride_level0_px
        Step between the centres of neighbouring cells.
    """

    values: NDArray[np.float32]
    x_centre_level0_px: float
    y_centre_level0_px: float
    stride_level0_px: float


def score_grid(scores: Scores) -> ScoreGrid:
    """Arrange the probabilities of a slide on their grid.

    Raises
    ------
    InputError
        There is no patch, or the patches do not lie on one grid (they were sampled at random).
    """
    attributes = scores.attributes
    stride_px = attributes.stride_level0_px
    columns = _cells(scores.x_level0_px, stride_px, attributes.slide)
    rows = _cells(scores.y_level0_px, stride_px, attributes.slide)
    left, top = int(columns.min()), int(rows.min())
    values = np.full((int(rows.max()) - top + 1, int(columns.max()) - left + 1), np.nan, np.float32)
    values[rows - top, columns - left] = scores.probability
    if np.isfinite(values).sum() != len(scores.probability):
        raise InputError("has two patches in one cell of the grid", subject=attributes.slide, remedy=_GRID_REMEDY)
    half_px = attributes.patch_level0_px / 2
    return ScoreGrid(values, left * stride_px + half_px, top * stride_px + half_px, stride_px)


_GRID_REMEDY = "cut this slide on a dense grid (preprocess.grid_splits) and score that shard"


def _cells(corner_level0_px: NDArray[np.int64], stride_px: float, slide: str) -> NDArray[np.int64]:
    if len(corner_level0_px) == 0:
        raise InputError("has no patch to score", subject=slide, remedy="check the tissue mask of this slide")
    cells = np.round(corner_level0_px / stride_px).astype(np.int64)
    # Corners are rounded to whole pixels, the stride need not be whole.
    if np.abs(corner_level0_px - cells * stride_px).max() > 1:
        raise InputError("has patches that do not lie on a grid", subject=slide, remedy=_GRID_REMEDY)
    return cells


def upsample(grid: ScoreGrid, shape: tuple[int, int], downsample_x: float, downsample_y: float) -> NDArray[np.float32]:
    """Interpolate a grid to the pixels of a smaller image of the slide, such as its thumbnail.

    Bilinear between the centres of analysed patches; cells that were not analysed have no weight, so that
    they neither pull values down nor get any. A pixel has a value if and only if its nearest cell was
    analysed; everything else is NaN, never a probability.

    Parameters
    ----------
    shape
        (height, width) of the image in pixels.
    downsample_x, downsample_y
        Level-0 pixels per pixel of the image.

    Returns
    -------
    NDArray[np.float32]
        `shape`, probabilities or NaN.
    """
    seen = np.isfinite(grid.values).astype(np.float32)
    known = np.nan_to_num(grid.values, nan=0.0)
    x = _grid_coordinates(shape[1], downsample_x, grid.x_centre_level0_px, grid.stride_level0_px)
    y = _grid_coordinates(shape[0], downsample_y, grid.y_centre_level0_px, grid.stride_level0_px)
    across, down = _bilinear_weights(x, seen.shape[1]), _bilinear_weights(y, seen.shape[0])
    weight = down @ seen @ across.T
    value = down @ known @ across.T
    near_y, inside_y = _nearest(y, seen.shape[0])
    near_x, inside_x = _nearest(x, seen.shape[1])
    shown = inside_y[:, None] & inside_x[None, :] & (seen[near_y][:, near_x] > 0)
    image = np.full(shape, np.nan, np.float32)
    np.divide(value, weight, out=image, where=shown)
    return np.clip(image, 0, 1, out=image)


def _grid_coordinates(
    size_px: int, downsample: float, centre_level0_px: float, stride_px: float
) -> NDArray[np.float32]:
    """Position of each pixel's centre in units of grid cells, 0 at the centre of the first cell."""
    position = ((np.arange(size_px) + 0.5) * downsample - centre_level0_px) / stride_px
    return position.astype(np.float32)


def _bilinear_weights(position: NDArray[np.float32], cells: int) -> NDArray[np.float32]:
    """Weight of every cell for every pixel, (pixels, cells); beyond the outermost centres the edge holds."""
    inside = np.clip(position, 0, cells - 1)
    weights = np.zeros((len(position), cells), np.float32)
    low = np.minimum(inside.astype(np.int64), max(cells - 2, 0))
    part = inside - low
    pixels = np.arange(len(position))
    weights[pixels, low] = 1 - part
    weights[pixels, np.minimum(low + 1, cells - 1)] += part
    return weights


def _nearest(position: NDArray[np.float32], cells: int) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    nearest = np.floor(position + 0.5).astype(np.int64)
    return np.clip(nearest, 0, cells - 1), (nearest >= 0) & (nearest < cells)
