from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from tasks.errors import InputError
from tasks.training.cohort import LabelledRows, ShardFacts
from tasks.training.epoch import BLOCK_ROWS, WINDOW_BYTES, RankEpoch, batch_rows, score_epoch, train_epoch


def rows_of(shard_rows: list[int]) -> LabelledRows:
    labels = [np.zeros(rows, np.int8) for rows in shard_rows]
    shards = tuple(ShardFacts(Path(f"{k}.h5"), "train", str(k), 96, 0.25, label) for k, label in enumerate(labels))
    return LabelledRows(
        shards=shards,
        shard=np.repeat(np.arange(len(shard_rows)), shard_rows),
        row=np.concatenate([np.arange(rows) for rows in shard_rows]),
        label=np.concatenate(labels),
    )


def plan(rows: LabelledRows, rank: int, ranks: int, batch_size: int, epoch: int = 1, seed: int = 0) -> RankEpoch:
    return train_epoch(
        rows, seed=seed, epoch=epoch, rank=rank, ranks=ranks, batch_size=batch_size, patch_bytes=WINDOW_BYTES // 50
    )


def order(epoch: RankEpoch) -> NDArray[np.int64]:
    return np.concatenate(epoch.windows)


shard_sizes = st.lists(st.integers(1, 120), min_size=1, max_size=8)


@given(shard_sizes, st.integers(1, 7), st.integers(1, 40), st.integers(0, 5))
def test_every_row_is_read_once_by_one_rank_in_equally_many_steps(
    sizes: list[int], ranks: int, batch_size: int, epoch: int
) -> None:
    rows = rows_of(sizes)
    if len(rows) < ranks:
        with pytest.raises(InputError, match="cannot feed"):
            plan(rows, 0, ranks, batch_size)
        return
    plans = [plan(rows, rank, ranks, batch_size, epoch) for rank in range(ranks)]
    read = np.concatenate([order(own) for own in plans])
    assert sorted(read.tolist()) == list(range(len(rows)))
    assert len({own.steps for own in plans}) == 1
    for own in plans:
        assert own.batch_rows.sum() == len(order(own))
        assert np.array_equal(own.all_rows, np.sum([other.batch_rows for other in plans], axis=0))


@given(st.integers(1, 5000), st.integers(1, 9), st.integers(1, 64))
def test_batches_are_full_and_differ_by_one_row_at_most(rows: int, ranks: int, batch_size: int) -> None:
    if rows < ranks:
        return
    sizes = batch_rows(rows, ranks=ranks, batch_size=batch_size)
    assert sizes.sum() == rows
    assert sizes.min() >= 1
    assert sizes.max() - sizes.min() <= 1
    # One more than asked only when another step would leave a rank without rows.
    assert sizes.max() <= batch_size or (sizes.shape[0] + 1) * ranks > rows


@given(shard_sizes, st.integers(1, 5), st.integers(1, 16))
def test_scoring_reads_every_row_once_in_order(sizes: list[int], ranks: int, batch_size: int) -> None:
    rows = rows_of(sizes)
    plans = [
        score_epoch(rows, rank=rank, ranks=ranks, batch_size=batch_size, patch_bytes=WINDOW_BYTES // 50)
        for rank in range(ranks)
    ]
    read = [window for own in plans for window in own.windows]
    assert np.concatenate(read).tolist() == list(range(len(rows)))
    assert sum(int(own.batch_rows.sum()) for own in plans) == len(rows)
    assert max(int(size) for own in plans for size in own.batch_rows) <= batch_size


def test_the_order_is_the_same_for_the_same_seed_and_epoch_only() -> None:
    rows = rows_of([300, 200])
    first = order(plan(rows, 0, 2, 16, epoch=1))
    assert np.array_equal(first, order(plan(rows, 0, 2, 16, epoch=1)))
    assert not np.array_equal(first, order(plan(rows, 0, 2, 16, epoch=2)))
    assert not np.array_equal(first, order(plan(rows, 0, 2, 16, epoch=1, seed=1)))


def test_windows_are_bounded_in_memory_and_made_of_runs_of_consecutive_rows() -> None:
    rows = rows_of([4000])
    own = plan(rows, 0, 1, 16)
    assert max(len(window) for window in own.windows) <= 50
    in_file_order = [np.sort(rows.row[window]) for window in own.windows]
    runs = sum(int(np.sum(np.diff(part) != 1)) + 1 for part in in_file_order)
    # Reading row by row in random order would take nearly 4000 reads.
    assert runs <= 4000 / BLOCK_ROWS + 2 * len(own.windows)


def test_the_shuffle_mixes_classes_that_lie_apart_in_the_file() -> None:
    rows = rows_of([2000])
    own = train_epoch(rows, seed=0, epoch=1, rank=0, ranks=1, batch_size=32, patch_bytes=WINDOW_BYTES // 600)
    read = order(own)
    halves = [np.mean(read[start : start + 32] < 1000) for start in range(0, 1984, 32)]
    assert min(halves) > 0.05
    assert max(halves) < 0.95
