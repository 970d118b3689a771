"""Cuts patches out of tiles: each tile is decoded once, in the order of the file."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from tasks.errors import InputError
from tasks.patches.pieces import Pieces, pieces_of
from tasks.slides.tile_grid import TileSource

BAND_COLUMNS = 48
"""Columns of tiles that are walked together: it bounds how many patches wait for the next row of tiles."""

Ints = NDArray[np.int64]
Rgb = NDArray[np.uint8]


def cut_patches(source: TileSource, x_px: Ints, y_px: Ints, side_px: int) -> Iterator[tuple[int, Rgb | None]]:
    """Give patches in the order in which they become complete.

    A wide level is walked in bands of `BAND_COLUMNS` columns of tiles, each band from the top down, so that the
    memory for patches that wait for their lower part does not grow with the slide (about 17 MB for 224 px). Only
    tiles at the border of two bands are decoded twice.

    Parameters
    ----------
    x_px, y_px
        Top left corners in pixels of the source's level, (n,); the patches lie inside the level.
    side_px
        Side of the patches in pixels of the level.

    Yields
    ------
    tuple
        Position in `x_px`, and the pixels: uint8 (side_px, side_px, 3), RGB, valid until the next step. None
        instead of pixels when a tile of the patch cannot be decoded.
    """
    band = x_px // (BAND_COLUMNS * source.grid.tile_width_px)
    for number in np.unique(band):
        chosen = np.flatnonzero(band == number)
        pieces = pieces_of(x_px[chosen], y_px[chosen], side_px, source.grid)
        for patch, pixels in _cut_band(source, pieces, len(chosen), side_px):
            yield int(chosen[patch]), pixels


def _cut_band(source: TileSource, pieces: Pieces, patches: int, side_px: int) -> Iterator[tuple[int, Rgb | None]]:
    missing = np.bincount(pieces.patch, minlength=patches).tolist()
    waiting: dict[int, Rgb] = {}
    spare: list[Rgb] = []
    pixels = source.grid.new_tile()
    for tile, rectangles in _by_tile(pieces):
        try:
            source.read_tile(tile, pixels)
        except InputError:
            for patch in {rectangle[0] for rectangle in rectangles}:
                if missing[patch]:
                    missing[patch] = 0
                    waiting.pop(patch, None)
                    yield patch, None
            continue
        for patch, x, y, tile_x, tile_y, width, height in rectangles:
            left = missing[patch]
            if not left:
                continue  # another tile of it was unreadable
            buffer = waiting.get(patch)
            if buffer is None:
                buffer = spare.pop() if spare else np.empty((side_px, side_px, 3), np.uint8)
                waiting[patch] = buffer
            buffer[y : y + height, x : x + width] = pixels[tile_y : tile_y + height, tile_x : tile_x + width]
            missing[patch] = left - 1
            if left == 1:
                yield patch, waiting.pop(patch)
                spare.append(buffer)


def _by_tile(pieces: Pieces) -> Iterator[tuple[int, list[tuple[int, ...]]]]:
    """Give each tile with its rectangles: patch, x and y in the patch, x and y in the tile, width, height."""
    rectangles = list(
        zip(
            *(
                values.tolist()
                for values in (
                    pieces.patch,
                    pieces.patch_x_px,
                    pieces.patch_y_px,
                    pieces.tile_x_px,
                    pieces.tile_y_px,
                    pieces.width_px,
                    pieces.height_px,
                )
            ),
            strict=True,
        )
    )
    borders = np.flatnonzero(np.diff(pieces.tile, prepend=-1, append=-1)).tolist()
    for start, stop in pairwise(borders):
        yield int(pieces.tile[start]), rectangles[start:stop]
