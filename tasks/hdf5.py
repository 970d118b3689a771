"""New HDF5 files under the rules of `tasks.atomic`."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py

from tasks.atomic import atomic_path


@contextmanager
def new_hdf5(path: Path) -> Iterator[h5py.File]:
    """Open a new HDF5 file for writing; it appears under `path` only when the block ends well.

    The same content gives the same bytes (h5py's default format keeps no time stamps).

    Raises
    ------
    PermanentFault, InputError
        The disk is full or the folder is not writable (see `tasks.atomic.atomic_path`).
    """
    with atomic_path(path) as temporary, _Sink(temporary) as sink:
        with h5py.File(sink, "w") as file:
            try:
                yield file
            finally:
                sink.closing = True
        if sink.fault is not None:
            raise sink.fault


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
