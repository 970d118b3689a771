"""Tiles of a JPEG-compressed tiled TIFF, read and decoded without OpenSlide."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import simplejpeg
import tifffile

from tasks.errors import InputError
from tasks.slides.reader import SlideReader
from tasks.slides.tile_grid import Rgb, TileGrid

_log = logging.getLogger(__name__)
_JPEG, _YCBCR, _RGB = 7, 6, 2
_LARGEST_TILE_PX = 4096
_LARGEST_TILE_BYTES = 1 << 26
# Tells a decoder that the components are red, green and blue: without it, it takes them as luma and chroma.
_COMPONENTS_ARE_RGB = b"\xff\xee\x00\x0eAdobe\x00\x64\x00\x00\x00\x00\x00"
_START, _END = b"\xff\xd8", b"\xff\xd9"


@dataclass(frozen=True, eq=False)
class JpegLayout:
    """Where the compressed tiles of one level lie in the file, and what they need to be decoded.

    Attributes
    ----------
    offsets, sizes
        int64 (tiles,): bytes of the file. A size of 0 means that the tile was not scanned.
    head
        What goes before a tile's own stream, after its start marker is cut off: a start marker, tables and the
        colour space.
    """

    grid: TileGrid
    offsets: npt.NDArray[np.int64]
    sizes: npt.NDArray[np.int64]
    head: bytes


class TiffTiles:
    """One level of a slide as a `TileSource` that decodes each compressed tile where it lies."""

    def __init__(self, path: Path, layout: JpegLayout) -> None:
        self.path = path
        self.layout = layout
        self._descriptor = os.open(path, os.O_RDONLY)

    @property
    def grid(self) -> TileGrid:
        """See `TileSource.grid`."""
        return self.layout.grid

    def compressed(self, tile: int) -> bytes:
        """Bytes of a tile as they are in the file; empty where nothing was scanned."""
        return os.pread(self._descriptor, int(self.layout.sizes[tile]), int(self.layout.offsets[tile]))

    def example(self) -> bytes:
        """Give the largest tile as a JPEG file of its own."""
        return self.layout.head + self.compressed(int(self.layout.sizes.argmax()))[2:]

    def read_tile(self, tile: int, out: Rgb) -> None:
        """See `TileSource.read_tile`."""
        stream = self.compressed(tile)
        if not stream and not self.layout.sizes[tile]:
            out[:] = 255
            return
        decode_tile(stream, self.layout.head, out, self.path, tile)

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)


def decode_tile(stream: bytes, head: bytes, out: Rgb, path: Path, tile: int) -> None:
    """Decode one JPEG tile into `out`.

    Raises
    ------
    InputError
        The stream is no JPEG of this size, or its data is damaged.
    """
    if not stream.startswith(_START):
        raise _undecodable(path, tile, "it is no JPEG stream")
    try:
        decoded = simplejpeg.decode_jpeg(head + stream[2:], "RGB", buffer=out)
    except ValueError as error:
        raise _undecodable(path, tile, str(error)) from error
    if decoded.shape != out.shape:
        raise _undecodable(path, tile, f"it has {decoded.shape[1]} x {decoded.shape[0]} px")


def find_jpeg_tiles(reader: SlideReader, level: int) -> JpegLayout | None:
    """Find the compressed tiles of a level, or None when they are not such as are read here.

    They are when the level is a tiled 8-bit RGB or YCbCr JPEG image of a TIFF file and the only one of its size, and
    when a tile that is decoded here is the same, to the bit, as what OpenSlide gives for its place.
    """
    try:
        with tifffile.TiffFile(reader.path) as file:
            pages = [page for page in file.pages if _shape(page) == reader.level_dimensions_px[level]]
            layout = _layout(pages[0], reader.path) if len(pages) == 1 else None
    except Exception as error:  # whatever tifffile says of a file that OpenSlide has opened: OpenSlide can read it
        _log.debug("%s: tiles are read through OpenSlide (%s)", reader.path, error)
        return None
    return layout if layout is not None and _agrees(reader, level, layout) else None


def _shape(page: tifffile.TiffPage) -> tuple[int, int] | None:
    return (int(page.imagewidth), int(page.imagelength)) if page.is_tiled else None


def _layout(page: tifffile.TiffPage, path: Path) -> JpegLayout | None:
    plain = (int(page.compression), int(page.planarconfig), int(page.samplesperpixel), int(page.bitspersample))
    colours = int(page.photometric)
    largest = max(int(page.tilewidth), int(page.tilelength))
    if plain != (_JPEG, 1, 3, 8) or colours not in (_YCBCR, _RGB) or largest > _LARGEST_TILE_PX:
        return None
    grid = TileGrid(int(page.imagewidth), int(page.imagelength), int(page.tilewidth), int(page.tilelength))
    offsets, sizes = (np.asarray(values, np.int64) for values in (page.dataoffsets, page.databytecounts))
    if len(offsets) != grid.tiles or len(sizes) != grid.tiles or (sizes > _LARGEST_TILE_BYTES).any():
        return None
    tables = bytes(page.jpegtables or b"")
    if tables and not (tables.startswith(_START) and tables.endswith(_END)):
        return None
    head = _START + (_COMPONENTS_ARE_RGB if colours == _RGB else b"") + tables[2:-2]
    return JpegLayout(grid, offsets, sizes, head)


def _agrees(reader: SlideReader, level: int, layout: JpegLayout) -> bool:
    """Compare the tile with the most bytes, which shows most, with what OpenSlide makes of it."""
    grid, tile = layout.grid, int(layout.sizes.argmax())
    x, y = grid.corner_px(tile)
    width, height = min(grid.tile_width_px, grid.width_px - x), min(grid.tile_height_px, grid.height_px - y)
    downsample = reader.level_downsamples[level]
    pixels, tiles = grid.new_tile(), TiffTiles(reader.path, layout)
    try:
        tiles.read_tile(tile, pixels)
        shown = reader.read_region(round(x * downsample), round(y * downsample), level, width, height)
    except InputError:
        return False
    finally:
        tiles.close()
    return bool((pixels[:height, :width] == shown).all())


def _undecodable(path: Path, tile: int, why: str) -> InputError:
    return InputError(
        f"tile {tile} cannot be decoded ({why})",
        subject=path,
        remedy="copy the slide again from its source; if the source has the same fault, exclude the slide",
    )
