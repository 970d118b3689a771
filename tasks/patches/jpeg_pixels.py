"""Encoding ``jpeg``: each patch as a JPEG stream, with the quantiser tables of the slide where it has some."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np
import simplejpeg
from numpy.typing import NDArray

from tasks.hdf5 import Body
from tasks.patches.attributes import ShardAttributes
from tasks.patches.damage import damaged, place_of, plain_column, plain_dataset
from tasks.patches.jpeg_encoder import JpegEncoder
from tasks.patches.pixel_storage import Ints, PatchMemory, PlainBytes, Rgb, stream_in_order

DATA, OFFSET, SIZE = "jpeg/data", "jpeg/offset_bytes", "jpeg/size_bytes"
_INT64 = np.dtype("int64")


class JpegWriter:
    """A `PixelWriter` for ``/jpeg/data``, with ``/jpeg/offset_bytes`` and ``/jpeg/size_bytes`` of each row's stream."""

    def __init__(self, body: Body, encoder: JpegEncoder) -> None:
        self._body, self._encoder = body, encoder
        self._places: dict[int, tuple[int, int]] = {}
        self._end_bytes = 0
        self._rows: list[tuple[int, int]] = []

    def put(self, slot: int, pixels: Rgb) -> None:
        """See `PixelWriter.put`."""
        stream = self._encoder.encode(pixels)
        self._body.write(self._end_bytes, stream)
        self._places[slot] = self._end_bytes, len(stream)
        self._end_bytes += len(stream)

    def settle(self, slots: Ints) -> Ints:
        """See `PixelWriter.settle`: the rows are in the order of the slots."""
        order = np.argsort(slots)
        rows = np.empty_like(slots)
        rows[order] = np.arange(len(slots))
        self._rows = [self._places[slot] for slot in slots[order].tolist()]
        self._drop_gaps()
        return rows

    def finish(self, file: h5py.File) -> None:
        """See `PixelWriter.finish`."""
        self._body.make_dataset(file, DATA, (self._end_bytes,))
        table = np.array(self._rows, np.int64).reshape(-1, 2)
        file.create_dataset(OFFSET, data=table[:, 0])
        file.create_dataset(SIZE, data=table[:, 1])

    def _drop_gaps(self) -> None:
        """Close up the streams where some in between are no rows."""
        if sum(size for _, size in self._rows) == self._end_bytes:
            return
        self._end_bytes = 0
        for row in sorted(range(len(self._rows)), key=lambda row: self._rows[row]):
            offset, size = self._rows[row]
            self._body.write(self._end_bytes, self._body.read(offset, size))
            self._rows[row] = self._end_bytes, size
            self._end_bytes += size


class JpegReader:
    """A `PixelReader` for such streams."""

    def __init__(self, path: Path, file: h5py.File, attributes: ShardAttributes) -> None:
        self._path, self._side_px = path, attributes.patch_px
        data = plain_dataset(path, file, DATA, np.dtype("uint8"))
        self.rows = int(plain_dataset(path, file, OFFSET, _INT64).shape[0])
        self._offset, self._size = (plain_column(path, file, name, _INT64, self.rows) for name in (OFFSET, SIZE))
        refuse_places_outside(path, self._offset, self._size, int(data.size))
        self._bytes = PlainBytes(path, place_of(path, data, int(data.size)))

    def read(self, rows: Ints, pixels: PatchMemory) -> None:
        """See `PixelReader.read`."""
        for place, row in enumerate(rows.tolist()):
            stream = self._bytes.bytes(int(self._size[row]), int(self._offset[row]))
            decoded = simplejpeg.decode_jpeg(stream, "RGB", buffer=pixels[place])
            if decoded.shape != pixels[place].shape:
                raise damaged(self._path, f"has a patch of {decoded.shape[1]} x {decoded.shape[0]} px in row {row}")

    def stream(self) -> Iterator[tuple[int, Rgb]]:
        """See `PixelReader.stream`."""
        return stream_in_order(self, self._side_px)

    def close(self) -> None:
        """See `PixelReader.close`."""
        self._bytes.close()


def refuse_places_outside(
    path: Path, offset_bytes: NDArray[np.int64], size_bytes: NDArray[np.int64], end_bytes: int
) -> None:
    """Raise `IntegrityError` when a stream reaches out of the data of a shard."""
    inside = (offset_bytes >= 0) & (size_bytes >= 0) & (size_bytes <= end_bytes) & (offset_bytes <= end_bytes)
    if not inside.all() or (offset_bytes + size_bytes > end_bytes).any():
        raise damaged(path, "has streams outside of its data")
