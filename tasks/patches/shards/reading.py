"""Reads a shard from its first row to its last in bounded memory."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from tasks.patches.store import Shard

_BATCH_BYTES = 32 << 20


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
    step = max(1, _BATCH_BYTES // (3 * shard.attributes.patch_px**2))
    for start in range(0, len(wanted), step):
        some = wanted[start : start + step]
        yield some, shard.read(some)
