"""Reads a whole shard in bounded memory."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tasks.digests import file_digest
from tasks.errors import IntegrityError
from tasks.patches.pixel_storage import in_batches
from tasks.patches.store import Shard


def batches(
    shard: Shard, rows: NDArray[np.int64] | None = None
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.uint8]]]:
    """Give row numbers, (n,), and their patches, uint8 (n, H, W, 3), RGB, about 32 MiB at a time.

    Parameters
    ----------
    rows
        These rows in this order; by default all.

    Raises
    ------
    IntegrityError
        The shard is damaged there.
    """
    wanted = np.arange(shard.rows, dtype=np.int64) if rows is None else rows
    for some in in_batches(wanted, shard.attributes.patch_px):
        yield some, shard.read(some)


def shard_digest(path: Path) -> str:
    """Digest of the file.

    Raises
    ------
    IntegrityError
        It cannot be read.
    """
    try:
        return file_digest(path)
    except OSError as error:
        raise IntegrityError(f"cannot be read ({error.strerror})", subject=path, remedy="transfer it again") from error
