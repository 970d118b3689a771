"""Shards: the patches of one slide with their metadata in one HDF5 file (schema ``camnet-patches/1``)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from tasks.config import Encoding
from tasks.errors import IntegrityError
from tasks.hdf5 import Body, new_hdf5_with_body
from tasks.patches.attributes import ShardAttributes
from tasks.patches.candidates import NORMAL, TUMOUR, UNKNOWN
from tasks.patches.damage import REMEDY, damaged, named_damage, plain_column
from tasks.patches.jpeg_encoder import JpegEncoder
from tasks.patches.jpeg_pixels import JpegReader, JpegWriter
from tasks.patches.pixel_storage import Ints, PatchMemory, PixelReader, PixelWriter
from tasks.patches.raw_pixels import RawReader, RawWriter
from tasks.patches.scale import corners_px
from tasks.patches.tile_storage import TileReader, copy_tiles
from tasks.slides.tiff_tiles import TiffTiles

INDEX_DTYPES: dict[str, np.dtype[Any]] = {
    "x_level0_px": np.dtype("int64"),
    "y_level0_px": np.dtype("int64"),
    "label": np.dtype("int8"),
    "tumour_fraction": np.dtype("float32"),
    "tissue_fraction": np.dtype("float32"),
    "white_fraction": np.dtype("float32"),
}
Columns = dict[str, NDArray[Any]]
_READERS: dict[Encoding, Callable[[Path, h5py.File, ShardAttributes], PixelReader]] = {
    "raw": RawReader,
    "jpeg": JpegReader,
    "tiles": TileReader,
}


@dataclass(frozen=True, slots=True)
class PatchBatch:
    """Some patches with their rows of the index.

    Attributes
    ----------
    pixels
        uint8 (n, H, W, 3), RGB.
    index
        The columns of `INDEX_DTYPES`, each (n,).
    """

    pixels: NDArray[np.uint8]
    index: Columns


class ShardWriter:
    """Writes one shard; use `write_shard`, which puts it under its final name when it is complete.

    Either `append` patches in the order of the rows, or `put` them anywhere and `keep` some of them in the end.
    """

    def __init__(self, file: h5py.File, body: Body, attributes: ShardAttributes, example: bytes | None) -> None:
        self._file = file
        self._pixels: PixelWriter = (
            JpegWriter(body, JpegEncoder(example)) if attributes.encoding == "jpeg" else RawWriter(body, attributes)
        )
        self._appended: list[Columns] = []
        self.rows = 0

    def append(self, batch: PatchBatch) -> None:
        """Add the patches of `batch` in their order."""
        for pixels in batch.pixels:
            self._pixels.put(self.rows, pixels)
            self.rows += 1
        self._appended.append(batch.index)

    def put(self, slot: int, pixels: NDArray[np.uint8]) -> None:
        """Write one patch, uint8 (H, W, 3), into a slot, instead of what was there before."""
        self._pixels.put(slot, pixels)

    def keep(self, slots: Ints, index: Columns) -> None:
        """Make the patches in these slots the rows of the shard, and what else was put nothing.

        Parameters
        ----------
        slots
            (n,), each once.
        index
            The columns of `INDEX_DTYPES`, in the order of `slots`. The rows' order is that of the slots, but that
            gaps are filled with the last ones.
        """
        rows = self._pixels.settle(slots)
        self._pixels.finish(self._file)
        write_index(self._file, {name: _at(rows, values) for name, values in index.items()})
        self.rows = len(slots)

    def finish(self) -> None:
        """Complete the shard, unless `keep` has done it."""
        if "index" in self._file:
            return
        joined = {
            name: np.concatenate([np.empty(0, dtype), *(index[name] for index in self._appended)])
            for name, dtype in INDEX_DTYPES.items()
        }
        self.keep(np.arange(self.rows), joined)


@contextmanager
def write_shard(path: Path, attributes: ShardAttributes, example: bytes | None = None) -> Iterator[ShardWriter]:
    """Open a shard of the encodings ``raw`` or ``jpeg`` for writing; it appears under `path` when the block ends well.

    Parameters
    ----------
    example
        A JPEG stream of the slide, whose compression is imitated (encoding ``jpeg``).

    Raises
    ------
    PermanentFault, InputError
        The disk is full or the folder is not writable (see `tasks.atomic.atomic_path`).
    """
    if attributes.encoding == "tiles":
        raise ValueError("tiles are copied, not written: see write_tiles")
    with new_hdf5_with_body(path) as (file, body):
        writer = ShardWriter(file, body, attributes, example)
        yield writer
        writer.finish()
        file.attrs.update(attributes.to_hdf5())


def write_tiles(path: Path, attributes: ShardAttributes, tiles: TiffTiles, index: Columns) -> None:
    """Write a shard of the encoding ``tiles``: the compressed tiles of a slide that the patches touch.

    Raises
    ------
    PermanentFault, InputError
        As `write_shard`.
    """
    with new_hdf5_with_body(path) as (file, body):
        side_px = attributes.side_level_px
        x_px, y_px = corners_px(
            index["x_level0_px"], index["y_level0_px"], attributes.level_downsample, side_px, tiles.grid
        )
        copy_tiles(tiles, x_px, y_px, side_px, body, file)
        write_index(file, index)
        file.attrs.update(attributes.to_hdf5())


def write_index(file: h5py.File, index: Columns) -> None:
    """Write the columns of `INDEX_DTYPES`."""
    for name, dtype in INDEX_DTYPES.items():
        file.create_dataset(f"index/{name}", data=index[name].astype(dtype, copy=False))


class Shard:
    """An open shard. Columns of the index are loaded; pixels are read on demand.

    Attributes
    ----------
    path : Path
    attributes : ShardAttributes
    rows : int
        Number of patches.
    x_level0_px, y_level0_px : NDArray[np.int64]
        Top left corner of each patch in the frame of level 0, (rows,).
    label : NDArray[np.int8]
        1 tumour, 0 normal, -1 unknown, (rows,).
    tumour_fraction, tissue_fraction, white_fraction : NDArray[np.float32]
        Shares of each patch's area, (rows,); NaN where it was not measured (white, in the encoding ``tiles``).
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with _opened(path) as file, named_damage(path):
            self.attributes = _attributes(path, file)
            self._pixels = _READERS[self.attributes.encoding](path, file, self.attributes)
            self.rows = self._pixels.rows
            try:
                columns = _columns(path, file, self.rows)
            except BaseException:  # whatever it was, nobody else can close this file any more
                self._pixels.close()
                raise
        self.x_level0_px: NDArray[np.int64] = columns["x_level0_px"]
        self.y_level0_px: NDArray[np.int64] = columns["y_level0_px"]
        self.label: NDArray[np.int8] = columns["label"]
        self.tumour_fraction: NDArray[np.float32] = columns["tumour_fraction"]
        self.tissue_fraction: NDArray[np.float32] = columns["tissue_fraction"]
        self.white_fraction: NDArray[np.float32] = columns["white_fraction"]

    def read(self, rows: NDArray[np.integer[Any]], pixels: NDArray[np.uint8] | None = None) -> NDArray[np.uint8]:
        """Read patches in the order of `rows`, whatever the encoding.

        Parameters
        ----------
        pixels
            Where they go, C-contiguous; new memory when None, which costs as much as reading raw patches does.

        Returns
        -------
        NDArray[np.uint8]
            (n, H, W, 3), RGB.

        Raises
        ------
        IntegrityError
            The file is damaged there.
        """
        if pixels is None:
            side_px = self.attributes.patch_px
            pixels = np.empty((len(rows), side_px, side_px, 3), np.uint8)
        self.read_into(rows, pixels)
        return pixels

    def read_into(self, rows: NDArray[np.integer[Any]], patches: PatchMemory) -> None:
        """Read each of `rows` to its own place, C-contiguous; threads may do so at the same time. Raises as `read`."""
        wanted = np.asarray(rows, dtype=np.int64)
        if wanted.size and (wanted.min() < 0 or wanted.max() >= self.rows):
            raise IndexError(f"{self.path}: rows {wanted.min()}..{wanted.max()} of {self.rows}")
        with named_damage(self.path):
            self._pixels.read(wanted, patches)

    def stream(self) -> Iterator[tuple[int, NDArray[np.uint8]]]:
        """Give each patch once with its row, in the order that costs least and with some 32 MiB of pixels at a time.

        The pixels, uint8 (H, W, 3), RGB, are valid until the next step. Raises as `read` does.
        """
        with named_damage(self.path):
            yield from self._pixels.stream()

    def example(self) -> bytes | None:
        """Give a JPEG stream of the slide itself; None where the shard has none (encodings ``raw``, ``jpeg``)."""
        with named_damage(self.path):
            return self._pixels.example() if isinstance(self._pixels, TileReader) else None

    def close(self) -> None:
        """Close the file."""
        self._pixels.close()

    def __enter__(self) -> Shard:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def open_shard(path: Path) -> Shard:
    """Open a shard for reading.

    Raises
    ------
    IntegrityError
        The file is missing, cut off, or not what the schema says. Nothing in it is followed (external and
        soft links) or decoded (filters) before its structure is checked.
    """
    return Shard(path)


def _opened(path: Path) -> h5py.File:
    try:
        return h5py.File(path, "r")
    except FileNotFoundError as error:
        raise IntegrityError("is not there", subject=path, remedy="transfer it again") from error
    except OSError as error:
        raise damaged(path, f"is no complete HDF5 file ({error})") from error


def _attributes(path: Path, file: h5py.File) -> ShardAttributes:
    try:
        return ShardAttributes.from_hdf5(dict(file.attrs))
    except ValidationError as error:
        wrong = "; ".join(".".join(map(str, item["loc"])) or item["msg"] for item in error.errors())
        raise IntegrityError(f"is no CamNet shard (attributes: {wrong})", subject=path, remedy=REMEDY) from error


def _columns(path: Path, file: h5py.File, rows: int) -> Columns:
    columns = {name: plain_column(path, file, f"index/{name}", dtype, rows) for name, dtype in INDEX_DTYPES.items()}
    if not np.isin(columns["label"], (TUMOUR, NORMAL, UNKNOWN)).all():
        raise damaged(path, "has labels other than 1, 0 and -1")
    return columns


def _at(rows: Ints, values: NDArray[Any]) -> NDArray[Any]:
    """Put each value at its row."""
    placed = np.empty_like(values)
    placed[rows] = values
    return placed
