"""Encoding ``raw``: the pixels of all patches one after the other, 8 bits a channel (what the paper stored)."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np

from tasks.hdf5 import Body
from tasks.patches.attributes import ShardAttributes
from tasks.patches.damage import damaged, place_of, plain_dataset
from tasks.patches.pixel_storage import Ints, PatchMemory, PlainBytes, Rgb, runs, stream_in_order

DATASET = "patches"


class RawWriter:
    """A `PixelWriter` for ``/patches``, uint8 (N, H, W, 3), in one piece: the patch of a row is found by counting."""

    def __init__(self, body: Body, attributes: ShardAttributes) -> None:
        self._body = body
        self._shape = (attributes.patch_px, attributes.patch_px, 3)
        self._patch_bytes = math.prod(self._shape)
        self._rows = 0

    def put(self, slot: int, pixels: Rgb) -> None:
        """See `PixelWriter.put`."""
        self._body.write(slot * self._patch_bytes, pixels)

    def settle(self, slots: Ints) -> Ints:
        """See `PixelWriter.settle`: the last patches move into the gaps, so that as few as possible move."""
        self._rows = len(slots)
        rows = slots.copy()
        behind = np.flatnonzero(slots >= self._rows)
        gaps = np.setdiff1d(np.arange(self._rows), slots)
        rows[behind[np.argsort(slots[behind])]] = gaps
        for place in behind.tolist():
            patch = self._body.read(int(slots[place]) * self._patch_bytes, self._patch_bytes)
            self._body.write(int(rows[place]) * self._patch_bytes, patch)
        return rows

    def finish(self, file: h5py.File) -> None:
        """See `PixelWriter.finish`."""
        self._body.make_dataset(file, DATASET, (self._rows, *self._shape))


class RawReader:
    """A `PixelReader` for ``/patches``, past h5py: its list index reads some hundred times fewer patches a second."""

    def __init__(self, path: Path, file: h5py.File, attributes: ShardAttributes) -> None:
        side = attributes.patch_px
        dataset = plain_dataset(path, file, DATASET, np.dtype("uint8"))
        if dataset.ndim != 4 or dataset.shape[1:] != (side, side, 3):
            raise damaged(path, f"has patches of shape {dataset.shape} for a patch of {side} px")
        self.rows = int(dataset.shape[0])
        self._side_px, self._patch_bytes = side, side * side * 3
        self._bytes = PlainBytes(path, place_of(path, dataset, self.rows * self._patch_bytes))

    def read(self, rows: Ints, pixels: PatchMemory) -> None:
        """See `PixelReader.read`."""
        # In the order of the file, neighbours at once, each to its own place: disks and networks like it so.
        order = np.argsort(rows, kind="stable")
        in_order = rows[order]
        memory = [memoryview(pixels[place]).cast("B") for place in order.tolist()]
        for first, last in runs(in_order):
            self._bytes.into(memory[first:last], int(in_order[first]) * self._patch_bytes)

    def stream(self) -> Iterator[tuple[int, Rgb]]:
        """See `PixelReader.stream`."""
        return stream_in_order(self, self._side_px)

    def close(self) -> None:
        """See `PixelReader.close`."""
        self._bytes.close()
