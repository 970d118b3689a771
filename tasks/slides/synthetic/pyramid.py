"""Pyramidal tiled JPEG TIFF, written row of tiles by row of tiles."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import imagecodecs
import numpy as np
import numpy.typing as npt
import tifffile

from tasks.atomic import atomic_path

Rgb = npt.NDArray[np.uint8]
Draw = Callable[[int, int, int, int], Rgb]

TILE_PX = 512
_QUALITY = 80
_TOP_SIDE_PX = 1024
_UM_PER_CM = 10_000
_REDUCED_IMAGE = 1


class _Level:
    """A reduced level: collects the rows of the level above at half size and keeps them as encoded tiles."""

    def __init__(self, width_px: int, height_px: int) -> None:
        self.width_px, self.height_px = width_px, height_px
        self.tiles: list[bytes] = []
        self._rows: list[Rgb] = []
        self._waiting_px = 0
        smaller = max(width_px, height_px) > _TOP_SIDE_PX and min(width_px, height_px) > 1
        self.next = _Level(width_px // 2, height_px // 2) if smaller else None

    def feed(self, band: Rgb) -> None:
        """Take a band of the level above, an even number of rows high unless it is the last."""
        rows, columns = band.shape[0] // 2, self.width_px
        if rows:
            half = cv2.resize(band[: 2 * rows, : 2 * columns], (columns, rows), interpolation=cv2.INTER_AREA)
            self._rows.append(half.astype(np.uint8))
            self._waiting_px += rows
        if self._waiting_px >= TILE_PX:
            self._flush()

    def finish(self) -> None:
        """Encode what is left, here and below."""
        if self._waiting_px:
            self._flush()
        if self.next:
            self.next.finish()

    def _flush(self) -> None:
        band = np.vstack(self._rows)
        self._rows, self._waiting_px = [], 0
        self.tiles += _encoded(band)
        if self.next:
            self.next.feed(band)


def write_pyramid(path: Path, draw: Draw, width_px: int, height_px: int, mpp: float) -> None:
    """Write a slide that is drawn tile by tile; the file appears under its name when it is complete.

    Baseline JPEG, quality 80, chroma at half resolution, tiles of 512 pixels; each level has half the size of the one
    above, averaged over 2 x 2 pixels. At most one row of tiles a level is in memory, with the encoded lower levels.

    Parameters
    ----------
    path
        Where.
    draw
        ``draw(x, y, width, height)`` gives that rectangle of level 0 as uint8 (height, width, 3), RGB.
    width_px, height_px
        Size of level 0.
    mpp
        µm per pixel at level 0, written as the TIFF's resolution.
    """
    below = _Level(width_px // 2, height_px // 2) if max(width_px, height_px) > _TOP_SIDE_PX else None
    with atomic_path(path) as temporary, tifffile.TiffWriter(temporary, bigtiff=True) as file:
        _write_level(file, _top_level(draw, width_px, height_px, below), width_px, height_px, mpp, 0)
        if below:
            below.finish()
        level, factor = below, 2
        while level:
            _write_level(file, iter(level.tiles), level.width_px, level.height_px, mpp * factor, _REDUCED_IMAGE)
            level, factor = level.next, factor * 2


def _top_level(draw: Draw, width_px: int, height_px: int, below: _Level | None) -> Iterator[bytes]:
    for y in range(0, height_px, TILE_PX):
        high = min(TILE_PX, height_px - y)
        tiles = [draw(x, y, min(TILE_PX, width_px - x), high) for x in range(0, width_px, TILE_PX)]
        # Before the tiles are handed on: the writer takes no more than it needs and does not come back after the last.
        if below:
            below.feed(np.hstack(tiles))
        for tile in tiles:
            yield _jpeg(tile)


def _write_level(
    file: tifffile.TiffWriter, tiles: Iterator[bytes], width_px: int, height_px: int, mpp: float, kind: int
) -> None:
    file.write(
        tiles,
        shape=(height_px, width_px, 3),
        dtype=np.uint8,
        tile=(TILE_PX, TILE_PX),
        photometric="ycbcr",
        compression="jpeg",
        subsampling=(2, 2),
        resolution=(_UM_PER_CM / mpp, _UM_PER_CM / mpp),
        resolutionunit="CENTIMETER",
        subfiletype=kind,
        # The same pixels must give the same bytes: no date, no version.
        software="camnet",
        metadata=None,
    )


def _encoded(band: Rgb) -> list[bytes]:
    return [_jpeg(band[:, x : x + TILE_PX]) for x in range(0, band.shape[1], TILE_PX)]


def _jpeg(tile: Rgb) -> bytes:
    below, right = TILE_PX - tile.shape[0], TILE_PX - tile.shape[1]
    if below or right:
        tile = cv2.copyMakeBorder(tile, 0, below, 0, right, cv2.BORDER_REPLICATE).astype(np.uint8)
    return bytes(
        imagecodecs.jpeg8_encode(
            np.ascontiguousarray(tile), level=_QUALITY, colorspace="RGB", outcolorspace="YCBCR", subsampling="420"
        )
    )
