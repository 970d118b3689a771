"""Which rank reads which rows in which order: a pure function of the seed and the epoch.

Shuffling row by row would read the shards in thousands of small pieces. So an epoch is shuffled twice:

1. Rows that lie side by side are cut into blocks of `BLOCK_ROWS`, and the blocks of all shards are permuted.
2. The sequence of blocks is cut into one stretch a rank, each stretch into windows of at most
   `WINDOW_BYTES`, and the rows of a window are permuted. A window is read as a whole, in the order of the files.

Every row is read exactly once an epoch by exactly one rank, and every rank makes the same number of steps.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tasks.errors import InputError
from tasks.training.cohort import LabelledRows

BLOCK_ROWS = 16
WINDOW_BYTES = 96 << 20


@dataclass(frozen=True)
class RankEpoch:
    """What one rank reads in one epoch.

    Attributes
    ----------
    windows
        Positions in the labelled rows, in the order of use, cut into pieces that are read at once.
    batch_rows
        (steps,) size of each batch of this rank.
    all_rows
        (steps,) size of the batches of all ranks together, what the gradient of a step is divided by.
    """

    windows: tuple[NDArray[np.int64], ...]
    batch_rows: NDArray[np.int64]
    all_rows: NDArray[np.int64]

    @property
    def steps(self) -> int:
        """Number of steps, the same on all ranks."""
        return len(self.batch_rows)


def batch_rows(rows: int, *, ranks: int, batch_size: int) -> NDArray[np.int64]:
    """Divide `rows` into equal steps: (steps, ranks) batch sizes that differ by one row at most.

    No batch is empty and none is a small remainder (batch normalisation would suffer). A batch has at most
    `batch_size` rows, one more only when the rows are too few to fill another step of all ranks.

    Raises
    ------
    InputError
        There are fewer rows than ranks.
    """
    if rows < ranks:
        raise InputError(f"{rows} training patches cannot feed {ranks} ranks", remedy="use fewer ranks or more slides")
    steps = min(-(-rows // (ranks * batch_size)), rows // ranks)
    small, larger = divmod(rows, steps * ranks)
    sizes = np.full(steps * ranks, small, dtype=np.int64)
    sizes[:larger] += 1
    return sizes.reshape(steps, ranks)


def train_epoch(
    rows: LabelledRows, *, seed: int, epoch: int, rank: int, ranks: int, batch_size: int, patch_bytes: int
) -> RankEpoch:
    """Plan one shuffled epoch of training for one rank.

    Parameters
    ----------
    rows
        Labelled rows of the training split.
    patch_bytes
        Size of one patch in memory; bounds the windows.
    """
    sizes = batch_rows(len(rows), ranks=ranks, batch_size=batch_size)
    ends = np.cumsum(sizes.sum(axis=0))
    block = _block_of_row(rows)
    place = np.random.default_rng([seed, epoch]).permutation(int(block[-1]) + 1)
    sequence = np.argsort(place[block], kind="stable")
    stretch = sequence[ends[rank] - sizes[:, rank].sum() : ends[rank]]
    shuffle = np.random.default_rng([seed, epoch, rank])
    windows = tuple(shuffle.permutation(window) for window in _windows(stretch, patch_bytes))
    return RankEpoch(windows, sizes[:, rank], sizes.sum(axis=1))


def score_epoch(rows: LabelledRows, *, rank: int, ranks: int, batch_size: int, patch_bytes: int) -> RankEpoch:
    """Plan one pass over all rows in their order; ranks may have different numbers of steps, also none."""
    stretch = np.array_split(np.arange(len(rows), dtype=np.int64), ranks)[rank]
    sizes = np.diff(np.append(np.arange(0, len(stretch), batch_size), len(stretch)))
    return RankEpoch(_windows(stretch, patch_bytes), sizes, sizes)


def _block_of_row(rows: LabelledRows) -> NDArray[np.int64]:
    """Give each row the number of its block: a new one where the file, or its multiple of `BLOCK_ROWS`, changes."""
    block = rows.row // BLOCK_ROWS
    border = (np.diff(block) != 0) | (np.diff(rows.shard) != 0)
    return np.concatenate([[0], np.cumsum(border)])


def _windows(stretch: NDArray[np.int64], patch_bytes: int) -> tuple[NDArray[np.int64], ...]:
    size = max(1, WINDOW_BYTES // patch_bytes)
    return tuple(stretch[start : start + size] for start in range(0, len(stretch), size))
