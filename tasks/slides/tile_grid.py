"""The grid of tiles that one pyramid level is stored in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

Rgb = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class TileGrid:
    """Tiles are numbered row by row from the top left one; those at the right and lower edge may hang over.

    Attributes
    ----------
    width_px, height_px
        Size of the level, in its own pixels.
    tile_width_px, tile_height_px
        Size of every tile, also of those that hang over.
    """

    width_px: int
    height_px: int
    tile_width_px: int
    tile_height_px: int

    @property
    def columns(self) -> int:
        """Tiles in a row."""
        return -(-self.width_px // self.tile_width_px)

    @property
    def rows(self) -> int:
        """Rows of tiles."""
        return -(-self.height_px // self.tile_height_px)

    @property
    def tiles(self) -> int:
        """Number of tiles."""
        return self.columns * self.rows

    def corner_px(self, tile: int) -> tuple[int, int]:
        """Give x, y of the top left pixel of a tile, in pixels of the level."""
        row, column = divmod(tile, self.columns)
        return column * self.tile_width_px, row * self.tile_height_px

    def new_tile(self) -> Rgb:
        """Memory for one decoded tile, uint8 (tile_height_px, tile_width_px, 3)."""
        return np.empty((self.tile_height_px, self.tile_width_px, 3), np.uint8)


class TileSource(Protocol):
    """Gives the tiles of one level, decoded. It is not for two threads at a time."""

    @property
    def grid(self) -> TileGrid:
        """Where the tiles lie."""

    def read_tile(self, tile: int, out: Rgb) -> None:
        """Fill `out` (see `TileGrid.new_tile`) with the tile's RGB pixels.

        What was not scanned is white; what hangs over the edge of the level is not defined.

        Raises
        ------
        InputError
            The tile cannot be decoded. Other tiles still can.
        """
