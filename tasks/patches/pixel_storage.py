"""What every encoding of the pixels in a shard offers; the encodings are in the files beside this one."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator, Sequence
from itertools import islice, pairwise
from pathlib import Path
from typing import Protocol

import h5py
import numpy as np
from numpy.typing import NDArray

MOST_PIECES = 512
"""Of one call to the operating system, which takes 1,024 at most."""
BATCH_BYTES = 32 << 20
"""Pixels that are held at a time when a whole shard is read."""

Ints = NDArray[np.int64]
Rgb = NDArray[np.uint8]
PatchMemory = Rgb | Sequence[Rgb]
"""Where patches go: uint8 (n, H, W, 3), or n arrays of (H, W, 3) in different places."""


class PixelWriter(Protocol):
    """Takes the pixels of patches in any order.

    A patch is put into a slot. In the end some slots are made the rows of the shard; what lies in others is lost.
    """

    def put(self, slot: int, pixels: Rgb) -> None:
        """Write one patch, uint8 (H, W, 3), into a slot; what was in it before is lost."""

    def settle(self, slots: Ints) -> Ints:
        """Make the patches in these slots the rows of the shard; give the row of each of them."""

    def finish(self, file: h5py.File) -> None:
        """Make the datasets. It comes after `settle`, and before anything else is made in the file."""


class PixelReader(Protocol):
    """Gives the pixels of patches back."""

    @property
    def rows(self) -> int:
        """Number of patches."""

    def read(self, rows: Ints, pixels: PatchMemory) -> None:
        """Read patches in the order of `rows`, each of them in range, into `pixels`, RGB."""

    def stream(self) -> Iterator[tuple[int, Rgb]]:
        """Give each patch once with its row, in the order that costs least; valid until the next step."""

    def close(self) -> None:
        """Close what is open."""


class PlainBytes:
    """Part of a file that is read at any place, with nothing between it and the operating system."""

    def __init__(self, path: Path, offset_bytes: int) -> None:
        self._descriptor = os.open(path, os.O_RDONLY)
        self._offset_bytes = offset_bytes

    def into(self, pieces: list[memoryview], offset_bytes: int) -> None:
        """Fill `pieces`, one after the other, with the bytes from `offset_bytes` on.

        Raises
        ------
        OSError
            The file ends before.
        """
        offset_bytes += self._offset_bytes
        left = deque(pieces)
        while left:
            count = os.preadv(self._descriptor, list(islice(left, MOST_PIECES)), offset_bytes)
            if not count:
                raise OSError("the file ends early")
            offset_bytes += count
            while left and count >= len(left[0]):
                count -= len(left.popleft())
            if count:
                left[0] = left[0][count:]

    def bytes(self, size_bytes: int, offset_bytes: int) -> bytes:
        """Read `size_bytes` bytes."""
        return os.pread(self._descriptor, size_bytes, self._offset_bytes + offset_bytes)

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)


def in_batches(rows: Ints, side_px: int) -> Iterator[Ints]:
    """Cut `rows` into parts whose patches have about `BATCH_BYTES`."""
    step = max(1, BATCH_BYTES // (3 * side_px**2))
    for start in range(0, len(rows), step):
        yield rows[start : start + step]


def stream_in_order(reader: PixelReader, side_px: int) -> Iterator[tuple[int, Rgb]]:
    """Give each patch with its row, from the first to the last (see `PixelReader.stream`)."""
    memory = np.empty((0, side_px, side_px, 3), np.uint8)
    for rows in in_batches(np.arange(reader.rows), side_px):
        if len(memory) < len(rows):
            memory = np.empty((len(rows), side_px, side_px, 3), np.uint8)
        pixels = memory[: len(rows)]
        reader.read(rows, pixels)
        yield from zip(rows.tolist(), pixels, strict=True)


def runs(rows: Ints) -> Iterator[tuple[int, int]]:
    """Give start and stop of the stretches of `rows` in which each is one more than the one before."""
    borders = np.flatnonzero(np.diff(rows) != 1) + 1
    for start, stop in pairwise([0, *borders.tolist(), len(rows)]):
        if stop > start:
            yield start, stop
