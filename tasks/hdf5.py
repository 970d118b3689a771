"""New HDF5 files under the rules of `tasks.atomic`."""

from __future__ import annotations

import io
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from tasks.atomic import atomic_path

BODY_OFFSET_BYTES = 4096


class Body:
    """The bulk of a new file: written where it stays, before it is known how much of it there will be.

    HDF5 fixes the size of a dataset in one piece when it makes it, and what h5py writes piece by piece goes through
    its buffers. Here the bytes go straight to the file, and `make_dataset` puts the structure around them at the end.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def write(self, offset_bytes: int, data: Any) -> None:  # noqa: ANN401  # a buffer; typing has no name for it before Python 3.12
        """Write `data` at a place counted from the start of the body."""
        left = memoryview(data).cast("B")
        offset_bytes += BODY_OFFSET_BYTES
        while left:
            written = os.pwrite(self._descriptor, left, offset_bytes)
            offset_bytes += written
            left = left[written:]

    def read(self, offset_bytes: int, size_bytes: int) -> bytes:
        """Read back what was written."""
        return os.pread(self._descriptor, size_bytes, BODY_OFFSET_BYTES + offset_bytes)

    def make_dataset(self, file: h5py.File, name: str, shape: tuple[int, ...]) -> None:
        """Make the first bytes of the body the uint8 dataset `name`; before anything else is made in `file`."""
        size_bytes = math.prod(shape)
        if size_bytes < BODY_OFFSET_BYTES:
            # Too small for HDF5 to keep to the alignment: such a dataset goes the usual way.
            file.create_dataset(name, data=np.frombuffer(self.read(0, size_bytes), np.uint8).reshape(shape))
            return
        properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        properties.set_layout(h5py.h5d.CONTIGUOUS)
        properties.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
        properties.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
        properties.set_obj_track_times(False)
        links = h5py.h5p.create(h5py.h5p.LINK_CREATE)
        links.set_create_intermediate_group(True)
        space = h5py.h5s.create_simple(shape)
        made = h5py.h5d.create(file.id, name.encode(), h5py.h5t.STD_U8LE, space, dcpl=properties, lcpl=links)
        if made.get_offset() != BODY_OFFSET_BYTES:
            raise RuntimeError(f"HDF5 put {name} at {made.get_offset()}, not at {BODY_OFFSET_BYTES}")


@contextmanager
def new_hdf5(path: Path) -> Iterator[h5py.File]:
    """Open a new HDF5 file for writing; it appears under `path` only when the block ends well.

    The same content gives the same bytes (h5py's default format keeps no time stamps).

    Raises
    ------
    PermanentFault, InputError
        The disk is full or the folder is not writable (see `tasks.atomic.atomic_path`).
    """
    with _sink_under(path) as sink, _closing_in_any_case(h5py.File(sink, "w"), sink) as file:
        yield file


@contextmanager
def new_hdf5_with_body(path: Path) -> Iterator[tuple[h5py.File, Body]]:
    """Open a new HDF5 file as `new_hdf5` does, with room for a `Body`."""
    aligned = {"alignment_threshold": BODY_OFFSET_BYTES, "alignment_interval": BODY_OFFSET_BYTES}
    with _sink_under(path) as sink, _closing_in_any_case(h5py.File(sink, "w", **aligned), sink) as file:
        yield file, Body(sink.fileno())


@contextmanager
def _sink_under(path: Path) -> Iterator[_Sink]:
    with atomic_path(path) as temporary, _Sink(temporary) as sink:
        yield sink
        if sink.fault is not None:
            raise sink.fault


@contextmanager
def _closing_in_any_case(file: h5py.File, sink: _Sink) -> Iterator[h5py.File]:
    with file:
        try:
            yield file
        finally:
            sink.closing = True


class _Sink(io.RawIOBase):
    """The bytes of a file that HDF5 can always close.

    HDF5 keeps a file open whose last bytes cannot be written (a full disk): its space is not given back, and the
    process ends with a segmentation fault. So the first error is raised where it happens, or kept while the file
    closes, and what HDF5 writes after it is dropped.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._raw = path.open("w+b", buffering=0)
        self.fault: OSError | None = None
        self.closing = False

    def write(self, data: Any) -> int:  # noqa: ANN401  # a buffer; typing has no name for it before Python 3.12
        written = 0
        while self.fault is None and written < len(data):
            try:
                written += self._raw.write(data[written:])
            except OSError as error:
                self._note(error)
        return len(data)

    def truncate(self, size: int | None = None) -> int:
        if self.fault is None:
            try:
                return self._raw.truncate(size)
            except OSError as error:
                self._note(error)
        return size or 0

    def fileno(self) -> int:
        return self._raw.fileno()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:  # noqa: ANN401  # as above
        return self._raw.readinto(buffer)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return self._raw.seek(offset, whence)

    def close(self) -> None:
        self._raw.close()
        super().close()

    def _note(self, error: OSError) -> None:
        self.fault = error
        if not self.closing:
            raise error
