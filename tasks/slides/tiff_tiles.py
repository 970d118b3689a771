"""Tiles of a JPEG-compressed tiled TIFF, read and decoded without OpenSlide."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass, replace
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
# Of a slide with damaged tiles: after so many that nobody can decode, it is left to OpenSlide.
_MOST_TRIED = 5
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
    example
        A tile that can be decoded, with many bytes.
    """

    grid: TileGrid
    offsets: npt.NDArray[np.int64]
    sizes: npt.NDArray[np.int64]
    head: bytes
    example: int


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

    def begins(self, tile: int) -> bool:
        """Whether there is a stream where the file says that this tile is; it is not decoded."""
        offset, size = int(self.layout.offsets[tile]), int(self.layout.sizes[tile])
        if not size:
            return True
        inside = offset + size <= os.fstat(self._descriptor).st_size
        return inside and os.pread(self._descriptor, len(_START), offset) == _START

    def example(self) -> bytes:
        """Give a large tile as a JPEG file of its own."""
        return self.layout.head + self.compressed(self.layout.example)[2:]

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
    return None if layout is None else _compared(reader, level, layout)


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
    return JpegLayout(grid, offsets, sizes, head, int(sizes.argmax()))


def _compared(reader: SlideReader, level: int, layout: JpegLayout) -> JpegLayout | None:
    """Compare the tile with the most bytes, which shows most, with what OpenSlide makes of it.

    One that neither can decode is damaged, and says nothing of the others: then the next one is taken.
    """
    tiles = TiffTiles(reader.path, layout)
    try:
        for tile in np.argsort(-layout.sizes, kind="stable")[:_MOST_TRIED].tolist():
            own, shown = _decoded(tiles, tile), _shown(reader, level, layout.grid, tile)
            if own is None and shown is None:
                continue
            if own is None or shown is None or not (own[: shown.shape[0], : shown.shape[1]] == shown).all():
                return None
            return replace(layout, example=tile)
    finally:
        tiles.close()
    return None


def _decoded(tiles: TiffTiles, tile: int) -> Rgb | None:
    pixels = tiles.grid.new_tile()
    try:
        tiles.read_tile(tile, pixels)
    except InputError:
        return None
    return pixels


def _shown(reader: SlideReader, level: int, grid: TileGrid, tile: int) -> Rgb | None:
    x, y = grid.corner_px(tile)
    width, height = min(grid.tile_width_px, grid.width_px - x), min(grid.tile_height_px, grid.height_px - y)
    downsample = reader.level_downsamples[level]
    try:
        return reader.read_region(round(x * downsample), round(y * downsample), level, width, height)
    except InputError:
        return None


def _undecodable(path: Path, tile: int, why: str) -> InputError:
    return InputError(
        f"tile {tile} cannot be decoded ({why})",
        subject=path,
        remedy="copy the slide again from its source; if the source has the same fault, exclude the slide",
    )
