"""Which rank reads which rows in which order: a pure function of the seed and the epoch.

Reading row by row at random is slow on disks and networks, and rows of the encoding ``tiles`` share tiles. So:

1. Rows that lie side by side are cut into short runs (`RUN_ROWS`), and the runs of all shards are permuted. This is
   the order of reading. It is cut into one stretch a rank.
2. Each row is used some time after it was read, uniformly drawn from 0 to the time in which a window of rows is read.
   The rows of a run are thus spread over the batches of a window, and a window slides: it has no borders, within which
   batches would resemble each other.

Every row is read exactly once an epoch by exactly one rank, and every rank makes the same number of steps.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tasks.config import Encoding
from tasks.errors import InputError
from tasks.training.cohort import LabelledRows

RUN_ROWS: dict[Encoding, int] = {"raw": 2, "jpeg": 2, "tiles": 16}
WINDOW_MB = 512

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class RankEpoch:
    """What one rank reads in one epoch, or in the rest of one.

    Attributes
    ----------
    rows
        (n,) positions in the labelled rows, in the order of use.
    reading
        (n,) places in `rows`, in the order in which they are read.
    batch_rows
        (steps,) size of each batch of this rank.
    all_rows
        (steps,) size of the batches of all ranks together, what the gradient of a step is divided by.
    first_step
        How many steps of the epoch come before.
    rows_before
        How many rows all ranks used in these.
    """

    rows: Ints
    reading: Ints
    batch_rows: Ints
    all_rows: Ints
    first_step: int = 0
    rows_before: int = 0

    @property
    def steps(self) -> int:
        """Number of steps, the same on all ranks."""
        return len(self.batch_rows)

    def from_step(self, step: int) -> RankEpoch:
        """Give the rest of the epoch from `step` on (0 is its first); what came before is not read again.

        Raises
        ------
        ValueError
            The epoch has no such step, or it comes before `first_step`.
        """
        skipped = step - self.first_step
        if not 0 <= skipped <= self.steps:
            raise ValueError(f"step {step} is none of {self.first_step} to {self.first_step + self.steps}")
        used = int(self.batch_rows[:skipped].sum())
        return RankEpoch(
            rows=self.rows[used:],
            reading=self.reading[self.reading >= used] - used,
            batch_rows=self.batch_rows[skipped:],
            all_rows=self.all_rows[skipped:],
            first_step=step,
            rows_before=self.rows_before + int(self.all_rows[:skipped].sum()),
        )


def batch_rows(rows: int, *, ranks: int, batch_size: int) -> Ints:
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
    rows: LabelledRows,
    *,
    seed: int,
    epoch: int,
    rank: int,
    ranks: int,
    batch_size: int,
    window_mb: int = WINDOW_MB,
    run_rows: int | None = None,
    draws: Ints | None = None,
    part: int = 0,
) -> RankEpoch:
    """Plan one shuffled epoch of training for one rank.

    Parameters
    ----------
    rows
        Labelled rows of the training split.
    window_mb
        10^6 bytes of pixels that wait for their use at most.
    run_rows
        Neighbours that are read together; None: `RUN_ROWS` of each shard's encoding.
    draws
        Rising positions in `rows` of what this epoch has, some of them several times or not at all; None: each once.
    part
        Of an epoch in which the number of ranks changed, from 0; each has an order of its own.
    """
    if draws is None:
        draws = np.arange(len(rows), dtype=np.int64)
    if part and not len(draws):
        return RankEpoch(rows=draws, reading=draws, batch_rows=draws, all_rows=draws)
    # A fourth number keeps the later parts apart from all other draws.
    order_seed, delay_seed = [seed, epoch], [seed, epoch, rank]
    if part:
        order_seed, delay_seed = [seed, epoch, part, 3], [seed, epoch, rank, 3 + part]
    sizes = batch_rows(len(draws), ranks=ranks, batch_size=batch_size)
    ends = np.cumsum(sizes.sum(axis=0))
    run = _run_of_row(rows, draws, run_rows)
    place = np.random.default_rng(order_seed).permutation(int(run[-1]) + 1)
    order = np.argsort(place[run], kind="stable")
    own = order[ends[rank] - sizes[:, rank].sum() : ends[rank]]
    window_rows = window_mb * 10**6 / (3 * rows.shards[0].patch_px ** 2)
    delay = np.random.default_rng(delay_seed).uniform(0, window_rows, len(own))
    use = np.argsort(_first_of_run(run[own]) + delay, kind="stable")
    reading = np.empty_like(use)
    reading[use] = np.arange(len(use))
    return RankEpoch(draws[own[use]], reading, sizes[:, rank], sizes.sum(axis=1))


def score_epoch(rows: LabelledRows, *, rank: int, ranks: int, batch_size: int) -> RankEpoch:
    """Plan one pass over all rows in their order; ranks may have different numbers of steps, also none."""
    stretch = np.array_split(np.arange(len(rows), dtype=np.int64), ranks)[rank]
    sizes = np.diff(np.append(np.arange(0, len(stretch), batch_size), len(stretch)))
    return RankEpoch(stretch, np.arange(len(stretch)), sizes, sizes)


def _run_of_row(rows: LabelledRows, draws: Ints, run_rows: int | None) -> Ints:
    """Give each draw the number of its run: a new one where the file, or the row's multiple of the length, changes."""
    lengths = np.array([run_rows or RUN_ROWS[facts.encoding] for facts in rows.shards], dtype=np.int64)
    shard = rows.shard[draws]
    run = rows.row[draws] // lengths[shard]
    border = (np.diff(run) != 0) | (np.diff(shard) != 0)
    return np.concatenate([[0], np.cumsum(border)])


def _first_of_run(run: Ints) -> Ints:
    """Give each place the place at which its run begins."""
    begins = np.flatnonzero(np.diff(run, prepend=-1))
    return np.repeat(begins, np.diff(np.append(begins, len(run))))
