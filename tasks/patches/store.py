"""Shards: the patches of one slide with their metadata in one HDF5 file (schema ``camnet-patches/1``)."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from types import TracebackType
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from tasks.errors import IntegrityError
from tasks.hdf5 import new_hdf5
from tasks.patches.attributes import ShardAttributes
from tasks.patches.candidates import NORMAL, TUMOUR, UNKNOWN

INDEX_DTYPES: dict[str, np.dtype[Any]] = {
    "x_level0_px": np.dtype("int64"),
    "y_level0_px": np.dtype("int64"),
    "label": np.dtype("int8"),
    "tumour_fraction": np.dtype("float32"),
    "tissue_fraction": np.dtype("float32"),
    "white_fraction": np.dtype("float32"),
}
_CHUNK_PATCHES = 32
_REMEDY = "make the shard again at its site and transfer it again"


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
    index: dict[str, NDArray[Any]]


class ShardWriter:
    """Writes one shard; use `write_shard`, which puts it under its final name when it is complete."""

    def __init__(self, file: h5py.File, attributes: ShardAttributes) -> None:
        side = attributes.patch_px
        self._patches = file.create_dataset(
            "patches",
            shape=(0, side, side, 3),
            maxshape=(None, side, side, 3),
            chunks=(_CHUNK_PATCHES, side, side, 3),
            dtype="uint8",
        )
        self._index = {
            name: file.create_dataset(f"index/{name}", shape=(0,), maxshape=(None,), chunks=(4096,), dtype=dtype)
            for name, dtype in INDEX_DTYPES.items()
        }
        self.rows = 0

    def append(self, batch: PatchBatch) -> None:
        """Add the patches of `batch` in their order."""
        end = self.rows + len(batch.pixels)
        for dataset, values in [(self._patches, batch.pixels), *self._columns(batch)]:
            dataset.resize(end, axis=0)
            dataset[self.rows : end] = values
        self.rows = end

    def _columns(self, batch: PatchBatch) -> list[tuple[Any, NDArray[Any]]]:
        return [(dataset, batch.index[name]) for name, dataset in self._index.items()]


@contextmanager
def write_shard(path: Path, attributes: ShardAttributes) -> Iterator[ShardWriter]:
    """Open a shard for writing; it appears under `path` only when the block ends well.

    Raises
    ------
    PermanentFault, InputError
        The disk is full or the folder is not writable (see `tasks.atomic.atomic_path`).
    """
    with new_hdf5(path) as file:
        file.attrs.update(attributes.to_hdf5())
        yield ShardWriter(file, attributes)


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
        Shares of each patch's area, (rows,).
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._file = h5py.File(path, "r")
        except FileNotFoundError as error:
            raise IntegrityError("is not there", subject=path, remedy="transfer it again") from error
        except OSError as error:
            raise IntegrityError(f"is no complete HDF5 file ({error})", subject=path, remedy=_REMEDY) from error
        try:
            with _named_damage(path):
                self.attributes = _attributes(path, self._file)
                self._patches = _patches(path, self._file, self.attributes)
                self.rows = int(self._patches.shape[0])
                columns = {name: _column(path, self._file, name, self.rows) for name in INDEX_DTYPES}
            _refuse_unknown_labels(path, columns["label"])
        except BaseException:
            self._file.close()
            raise
        self.x_level0_px: NDArray[np.int64] = columns["x_level0_px"]
        self.y_level0_px: NDArray[np.int64] = columns["y_level0_px"]
        self.label: NDArray[np.int8] = columns["label"]
        self.tumour_fraction: NDArray[np.float32] = columns["tumour_fraction"]
        self.tissue_fraction: NDArray[np.float32] = columns["tissue_fraction"]
        self.white_fraction: NDArray[np.float32] = columns["white_fraction"]

    def read(self, rows: NDArray[np.integer[Any]]) -> NDArray[np.uint8]:
        """Read patches in the order of `rows`.

        Runs of consecutive rows are read at once; h5py's own list indexing is hundreds of times slower.

        Returns
        -------
        NDArray[np.uint8]
            (n, H, W, 3), RGB.

        Raises
        ------
        IntegrityError
            The file is damaged there.
        """
        wanted = np.asarray(rows, dtype=np.int64)
        if wanted.size and (wanted.min() < 0 or wanted.max() >= self.rows):
            raise IndexError(f"{self.path}: rows {wanted.min()}..{wanted.max()} of {self.rows}")
        order = np.argsort(wanted, kind="stable")
        in_order = wanted[order]
        pixels = np.empty((len(wanted), *self._patches.shape[1:]), np.uint8)
        with _named_damage(self.path):
            for start, stop in _runs(in_order):
                self._patches.read_direct(pixels, np.s_[in_order[start] : in_order[stop - 1] + 1], np.s_[start:stop])
        if np.array_equal(order, np.arange(len(order))):
            return pixels
        unordered = np.empty_like(pixels)
        unordered[order] = pixels
        return unordered

    def close(self) -> None:
        """Close the file."""
        self._file.close()

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


def _runs(in_order: NDArray[np.int64]) -> list[tuple[int, int]]:
    borders = np.flatnonzero(np.diff(in_order) != 1) + 1
    edges = [0, *borders.tolist(), len(in_order)]
    return [(start, stop) for start, stop in pairwise(edges) if stop > start]


@contextmanager
def _named_damage(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, RuntimeError, KeyError, ValueError, TypeError) as error:  # h5py has all of these for damaged files
        raise IntegrityError(f"is damaged ({error})", subject=path, remedy=_REMEDY) from error


def _attributes(path: Path, file: h5py.File) -> ShardAttributes:
    try:
        return ShardAttributes.from_hdf5(dict(file.attrs))
    except ValidationError as error:
        wrong = "; ".join(".".join(map(str, item["loc"])) for item in error.errors())
        raise IntegrityError(f"is no CamNet shard (attributes: {wrong})", subject=path, remedy=_REMEDY) from error


def _refuse_unknown_labels(path: Path, label: NDArray[np.int8]) -> None:
    if not np.isin(label, (TUMOUR, NORMAL, UNKNOWN)).all():
        raise IntegrityError("has labels other than 1, 0 and -1", subject=path, remedy=_REMEDY)


def _patches(path: Path, file: h5py.File, attributes: ShardAttributes) -> h5py.Dataset:
    side = attributes.patch_px
    dataset = _plain_dataset(path, file, "patches", np.dtype("uint8"))
    if dataset.ndim != 4 or dataset.shape[1:] != (side, side, 3):
        raise IntegrityError(
            f"has patches of shape {dataset.shape} for a patch of {side} px", subject=path, remedy=_REMEDY
        )
    return dataset


def _column(path: Path, file: h5py.File, name: str, rows: int) -> NDArray[Any]:
    dataset = _plain_dataset(path, file, f"index/{name}", INDEX_DTYPES[name])
    if dataset.shape != (rows,):
        raise IntegrityError(f"has {dataset.shape} values of {name} for {rows} patches", subject=path, remedy=_REMEDY)
    return np.asarray(dataset[:])


def _plain_dataset(path: Path, file: h5py.File, name: str, dtype: np.dtype[Any]) -> h5py.Dataset:
    """Give a dataset that is wholly stored in this file, of this type and without filters or virtual sources."""
    group = file
    for part in name.split("/"):
        if not isinstance(group, h5py.Group) or not isinstance(group.get(part, getlink=True), h5py.HardLink):
            raise IntegrityError(f"has no {name} of its own", subject=path, remedy=_REMEDY)
        group = group[part]
    if not isinstance(group, h5py.Dataset) or group.dtype != dtype:
        raise IntegrityError(f"has no {name} of type {dtype}", subject=path, remedy=_REMEDY)
    properties = group.id.get_create_plist()
    if properties.get_nfilters() or group.is_virtual or group.external:
        raise IntegrityError(f"keeps {name} behind a filter or in other files", subject=path, remedy=_REMEDY)
    stored_bytes, nominal_bytes = group.id.get_storage_size(), math.prod(group.shape) * dtype.itemsize
    # A few bytes of header can claim any shape; memory is taken only for what is there.
    if not nominal_bytes <= stored_bytes <= file.id.get_filesize():
        raise IntegrityError(
            f"states {nominal_bytes} bytes of {name} and holds {stored_bytes}", subject=path, remedy=_REMEDY
        )
    return group
