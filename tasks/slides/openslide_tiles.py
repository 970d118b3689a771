"""Any level of any slide as tiles, through OpenSlide."""

from __future__ import annotations

from tasks.slides.reader import SlideReader
from tasks.slides.tile_grid import Rgb, TileGrid

_USUAL_TILE_PX, _SMALLEST_TILE_PX, _LARGEST_TILE_PX = 512, 64, 2048


class OpenSlideTiles:
    """One level of a slide as a `TileSource`.

    Reading whole tiles costs OpenSlide less than reading the patches in them, which share pixels. They are those of
    the file, so that a damaged one takes no neighbours with it; where the file has none of a useful size, squares.
    """

    def __init__(self, reader: SlideReader, level: int) -> None:
        self._reader, self._level = reader, level
        self._downsample = reader.level_downsamples[level]
        self._grid = TileGrid(*reader.level_dimensions_px[level], *_tile_size_px(reader, level))

    @property
    def grid(self) -> TileGrid:
        """See `TileSource.grid`."""
        return self._grid

    def read_tile(self, tile: int, out: Rgb) -> None:
        """See `TileSource.read_tile`."""
        x, y = self._grid.corner_px(tile)
        corner = round(x * self._downsample), round(y * self._downsample)
        size = self._grid.tile_width_px, self._grid.tile_height_px
        out[:] = self._reader.read_region(*corner, self._level, *size)


def _tile_size_px(reader: SlideReader, level: int) -> tuple[int, int]:
    stated = reader.tile_size_px(level)
    if stated and _SMALLEST_TILE_PX <= min(stated) <= max(stated) <= _LARGEST_TILE_PX:
        return stated
    return _USUAL_TILE_PX, _USUAL_TILE_PX
