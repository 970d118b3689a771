"""Which tiles hold which parts of which patches."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tasks.slides.tile_grid import TileGrid

Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Pieces:
    """The parts that patches have in tiles, each a rectangle, sorted by tile and then by patch.

    Attributes
    ----------
    tile, patch
        Number of the tile, and position of the patch in what was asked for.
    patch_x_px, patch_y_px, tile_x_px, tile_y_px
        Top left corner of the rectangle, in the patch and in the tile.
    width_px, height_px
        Its size.
    """

    tile: Ints
    patch: Ints
    patch_x_px: Ints
    patch_y_px: Ints
    tile_x_px: Ints
    tile_y_px: Ints
    width_px: Ints
    height_px: Ints

    def __len__(self) -> int:
        return len(self.tile)


def pieces_of(x_px: Ints, y_px: Ints, side_px: int, grid: TileGrid) -> Pieces:
    """Cut patches along the borders of the tiles.

    Parameters
    ----------
    x_px, y_px
        Top left corners of the patches in pixels of the level, (n,). The patches lie inside the level.
    side_px
        Side of all patches.

    Raises
    ------
    ValueError
        A patch reaches out of the level.
    """
    if len(x_px) and (
        min(x_px.min(), y_px.min()) < 0 or x_px.max() + side_px > grid.width_px or y_px.max() + side_px > grid.height_px
    ):
        raise ValueError("a patch reaches out of the level")
    first_column, columns = _span(x_px, side_px, grid.tile_width_px)
    first_row, rows = _span(y_px, side_px, grid.tile_height_px)
    count = columns * rows
    patch = np.repeat(np.arange(len(x_px)), count)
    place = np.arange(len(patch)) - np.repeat(np.cumsum(count) - count, count)
    row = first_row[patch] + place // columns[patch]
    column = first_column[patch] + place % columns[patch]
    left, right = _overlap(x_px[patch], side_px, column * grid.tile_width_px, grid.tile_width_px)
    top, bottom = _overlap(y_px[patch], side_px, row * grid.tile_height_px, grid.tile_height_px)
    tile = row * grid.columns + column
    order = np.argsort(tile, kind="stable")
    return Pieces(
        *(
            values[order]
            for values in (
                tile,
                patch,
                left - x_px[patch],
                top - y_px[patch],
                left - column * grid.tile_width_px,
                top - row * grid.tile_height_px,
                right - left,
                bottom - top,
            )
        )
    )


def _span(start_px: Ints, side_px: int, tile_px: int) -> tuple[Ints, Ints]:
    """First tile and number of tiles along one axis."""
    first = start_px // tile_px
    return first, (start_px + side_px - 1) // tile_px - first + 1


def _overlap(start_px: Ints, side_px: int, tile_start_px: Ints, tile_px: int) -> tuple[Ints, Ints]:
    return np.maximum(start_px, tile_start_px), np.minimum(start_px + side_px, tile_start_px + tile_px)
