"""Encoding ``tiles``: the slide's own compressed tiles that the patches touch, copied byte for byte.

Nothing is decoded to write it and no pixel changes; a patch is cut out of the decoded tiles when it is read.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray

from tasks.errors import InputError
from tasks.hdf5 import Body
from tasks.patches.attributes import ShardAttributes
from tasks.patches.cut import cut_patches
from tasks.patches.damage import damaged, place_of, plain_column, plain_dataset
from tasks.patches.jpeg_pixels import refuse_places_outside
from tasks.patches.pieces import pieces_of
from tasks.patches.pixel_storage import BATCH_BYTES, Ints, PatchMemory, PlainBytes, Rgb
from tasks.patches.scale import corners_px, scaled
from tasks.slides.tiff_tiles import TiffTiles, decode_tile
from tasks.slides.tile_grid import TileGrid

DATA, HEAD, GRID = "tiles/data", "tiles/head", "tiles/grid_px"
NUMBER, OFFSET, SIZE = "tiles/number", "tiles/offset_bytes", "tiles/size_bytes"
_INT64, _UINT8 = np.dtype("int64"), np.dtype("uint8")
_LARGEST_TILE_PX = 4096
_STRETCH_ROWS = 1 << 14
# Tiles are copied without being decoded, so that one that is damaged in the slide itself shows here first.
_TILE_REMEDY = (
    "compare its digest with that of the site that made it; if they are equal, the slide itself is damaged there: "
    "preprocess it with the encoding raw or jpeg, which leaves such patches out and counts them, or exclude it"
)


def copy_tiles(tiles: TiffTiles, x_px: Ints, y_px: Ints, side_px: int, body: Body, file: h5py.File) -> None:
    """Copy the tiles that patches touch (see `pieces_of`) into a new shard, each once, in the order of the slide.

    ``/tiles/data`` holds the streams, ``/tiles/number`` the number of each tile in the level's grid,
    ``/tiles/offset_bytes`` and ``/tiles/size_bytes`` where it lies (size 0: not scanned), ``/tiles/head`` what goes
    before each stream, and ``/tiles/grid_px`` width and height of the level and of a tile.
    """
    numbers = np.unique(pieces_of(x_px, y_px, side_px, tiles.grid).tile)
    sizes = tiles.layout.sizes[numbers]
    offsets = np.cumsum(sizes) - sizes
    for number, offset in zip(numbers.tolist(), offsets.tolist(), strict=True):
        body.write(offset, tiles.compressed(number))
    body.make_dataset(file, DATA, (int(sizes.sum()),))
    grid = tiles.grid
    file.create_dataset(NUMBER, data=numbers)
    file.create_dataset(OFFSET, data=offsets)
    file.create_dataset(SIZE, data=sizes)
    file.create_dataset(HEAD, data=np.frombuffer(tiles.layout.head, np.uint8))
    file.create_dataset(
        GRID, data=np.array([grid.width_px, grid.height_px, grid.tile_width_px, grid.tile_height_px], np.int64)
    )


class TileReader:
    """A `PixelReader` that decodes each tile once a call: rows that share tiles are best read together."""

    def __init__(self, path: Path, file: h5py.File, attributes: ShardAttributes) -> None:
        self._path = path
        self._patch_px, self._side_px = attributes.patch_px, attributes.side_level_px
        self.rows = int(plain_dataset(path, file, "index/x_level0_px", _INT64).size)
        x_level0_px, y_level0_px = (
            plain_column(path, file, f"index/{name}", _INT64, self.rows) for name in ("x_level0_px", "y_level0_px")
        )
        self._tiles = _StoredTiles(path, file)
        self._x_px, self._y_px = corners_px(
            x_level0_px, y_level0_px, attributes.level_downsample, self._side_px, self._tiles.grid
        )

    def read(self, rows: Ints, pixels: PatchMemory) -> None:
        """See `PixelReader.read`."""
        for place, patch in self._cut(rows):
            pixels[place][:] = patch

    def stream(self) -> Iterator[tuple[int, Rgb]]:
        """See `PixelReader.stream`: long stretches of rows, each in the order of the tiles.

        Rows lie along a curve, so that the tiles of a stretch are few, and nearly all of them are decoded once.
        """
        start = 0
        while start < self.rows:
            rows = self._stretch(start)
            for place, patch in self._cut(rows):
                yield int(rows[place]), patch
            start += len(rows)

    def example(self) -> bytes | None:
        """Give the largest tile as a JPEG file of its own; None: nothing was scanned."""
        try:
            return self._tiles.example()
        except InputError as error:
            raise damaged(self._path, "has a tile that cannot be decoded", _TILE_REMEDY) from error

    def _cut(self, rows: Ints) -> Iterator[tuple[int, Rgb]]:
        for place, cut in cut_patches(self._tiles, self._x_px[rows], self._y_px[rows], self._side_px):
            if cut is None:
                raise damaged(self._path, f"has a tile that cannot be decoded, of row {rows[place]}", _TILE_REMEDY)
            yield place, scaled(cut, self._patch_px)

    def _stretch(self, start: int) -> Ints:
        """Give the next rows: as many as do not take more than `BATCH_BYTES` while they wait for their tiles."""
        rows = np.arange(start, min(start + _STRETCH_ROWS, self.rows))
        while len(rows) > 1 and self._most_waiting(rows) * 3 * self._side_px**2 > BATCH_BYTES:
            rows = rows[: len(rows) // 2]
        return rows

    def _most_waiting(self, rows: Ints) -> int:
        """Most patches that have some of their tiles and not all, when tiles are visited in their order."""
        grid, x_px, y_px, reach_px = self._tiles.grid, self._x_px[rows], self._y_px[rows], self._side_px - 1
        first = y_px // grid.tile_height_px * grid.columns + x_px // grid.tile_width_px
        last = (y_px + reach_px) // grid.tile_height_px * grid.columns + (x_px + reach_px) // grid.tile_width_px
        begin, end = np.sort(first[first < last]), np.sort(last[first < last])
        # Those that begin up to a tile, less those that end before it.
        return int((np.arange(1, len(begin) + 1) - np.searchsorted(end, begin)).max(initial=0))

    def close(self) -> None:
        """See `PixelReader.close`."""
        self._tiles.close()


class _StoredTiles:
    """The copied tiles as a `TileSource`."""

    def __init__(self, path: Path, file: h5py.File) -> None:
        self._path = path
        data = plain_dataset(path, file, DATA, _UINT8)
        self._grid = _grid(path, plain_column(path, file, GRID, _INT64, 4))
        count = int(plain_dataset(path, file, NUMBER, _INT64).shape[0])
        numbers, self._offset, self._size = (
            plain_column(path, file, name, _INT64, count) for name in (NUMBER, OFFSET, SIZE)
        )
        refuse_places_outside(path, self._offset, self._size, int(data.size))
        self._place = {number: place for place, number in enumerate(numbers.tolist())}
        self._head: bytes = plain_dataset(path, file, HEAD, _UINT8)[:].tobytes()
        self._bytes = PlainBytes(path, place_of(path, data, int(data.size)))

    @property
    def grid(self) -> TileGrid:
        return self._grid

    def read_tile(self, tile: int, out: Rgb) -> None:
        place = self._place.get(tile)
        if place is None:
            raise InputError(f"lacks tile {tile}", subject=self._path)
        size = int(self._size[place])
        if not size:
            out[:] = 255
            return
        decode_tile(self._bytes.bytes(size, int(self._offset[place])), self._head, out, self._path, tile)

    def example(self) -> bytes | None:
        if not self._size.any():
            return None
        place = int(self._size.argmax())
        stream = self._bytes.bytes(int(self._size[place]), int(self._offset[place]))
        # It is decoded to see that it is what it should be.
        decode_tile(stream, self._head, self._grid.new_tile(), self._path, place)
        return self._head + stream[2:]

    def close(self) -> None:
        self._bytes.close()


def _grid(path: Path, sizes_px: NDArray[np.int64]) -> TileGrid:
    width, height, tile_width, tile_height = sizes_px.tolist()
    if (
        min(width, height) < 1
        or not 1 <= min(tile_width, tile_height) <= max(tile_width, tile_height) <= _LARGEST_TILE_PX
    ):
        raise damaged(path, f"has an impossible grid of tiles ({width} x {height}, {tile_width} x {tile_height} px)")
    return TileGrid(width, height, tile_width, tile_height)
