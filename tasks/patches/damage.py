"""Shards come from other sites: nothing in them is believed before it was looked at."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from tasks.errors import IntegrityError

REMEDY = "make the shard again at its site and transfer it again"


def damaged(path: Path, cause: str, remedy: str = REMEDY) -> IntegrityError:
    """Make the error that says what is wrong with a shard."""
    return IntegrityError(cause, subject=path, remedy=remedy)


@contextmanager
def named_damage(path: Path) -> Iterator[None]:
    """Turn what h5py and numpy raise for damaged files into an `IntegrityError` that names the file."""
    try:
        yield
    except (OSError, RuntimeError, KeyError, ValueError, TypeError) as error:  # h5py has all of these for damaged files
        raise damaged(path, f"is damaged ({error})") from error


def plain_dataset(path: Path, file: h5py.File, name: str, dtype: np.dtype[Any]) -> h5py.Dataset:
    """Give a dataset that is wholly stored in this file, of this type and without filters or virtual sources.

    Raises
    ------
    IntegrityError
        It is anything else. Nothing is followed (external and soft links), decoded (filters) or loaded.
    """
    group = file
    for part in name.split("/"):
        if not isinstance(group, h5py.Group) or not isinstance(group.get(part, getlink=True), h5py.HardLink):
            raise damaged(path, f"has no {name} of its own")
        group = group[part]
    if not isinstance(group, h5py.Dataset) or group.dtype != dtype:
        raise damaged(path, f"has no {name} of type {dtype}")
    properties = group.id.get_create_plist()
    if properties.get_nfilters() or group.is_virtual or group.external:
        raise damaged(path, f"keeps {name} behind a filter or in other files")
    stored_bytes, nominal_bytes = group.id.get_storage_size(), math.prod(group.shape) * dtype.itemsize
    # A few bytes of header can claim any shape; memory is taken only for what is there.
    if not nominal_bytes <= stored_bytes <= file.id.get_filesize():
        raise damaged(path, f"states {nominal_bytes} bytes of {name} and holds {stored_bytes}")
    return group


def plain_column(path: Path, file: h5py.File, name: str, dtype: np.dtype[Any], rows: int) -> np.ndarray[Any, Any]:
    """Load a column of `rows` values.

    Raises
    ------
    IntegrityError
        See `plain_dataset`; or it has another length.
    """
    dataset = plain_dataset(path, file, name, dtype)
    if dataset.shape != (rows,):
        raise damaged(path, f"has {dataset.shape} values of {name.removeprefix('index/')} for {rows} patches")
    return np.asarray(dataset[:])


def place_of(path: Path, dataset: h5py.Dataset, size_bytes: int) -> int:
    """Offset in the file of a dataset that lies there in one piece of `size_bytes`.

    Raises
    ------
    IntegrityError
        It lies in pieces, or outside of the file.
    """
    if not size_bytes:
        return 0
    offset = dataset.id.get_offset()
    if offset is None or offset + size_bytes > path.stat().st_size:
        raise damaged(path, f"does not hold {dataset.name} in one piece")
    return int(offset)
