from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.config import Encoding
from tasks.errors import InputError
from tasks.training.cohort import LabelledRows, ShardFacts
from tasks.training.epoch import RUN_ROWS, RankEpoch, batch_rows, score_epoch, train_epoch

PATCH_PX = 96
WINDOW_MB = 2
WINDOW_ROWS = 2_000_000 / (3 * PATCH_PX**2)


def rows_of(shard_rows: list[int], encoding: Encoding = "raw") -> LabelledRows:
    labels = [np.zeros(rows, np.int8) for rows in shard_rows]
    shards = tuple(
        ShardFacts(Path(f"{k}.h5"), "train", str(k), PATCH_PX, 0.25, label, encoding=encoding)
        for k, label in enumerate(labels)
    )
    return LabelledRows(
        shards=shards,
        shard=np.repeat(np.arange(len(shard_rows)), shard_rows),
        row=np.concatenate([np.arange(rows) for rows in shard_rows]),
        label=np.concatenate(labels),
    )


def plan(rows: LabelledRows, rank: int, ranks: int, batch_size: int, epoch: int = 1, seed: int = 0) -> RankEpoch:
    return train_epoch(rows, seed=seed, epoch=epoch, rank=rank, ranks=ranks, batch_size=batch_size, window_mb=WINDOW_MB)


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
    read = np.concatenate([own.rows for own in plans])
    assert sorted(read.tolist()) == list(range(len(rows)))
    assert len({own.steps for own in plans}) == 1
    for own in plans:
        assert own.batch_rows.sum() == len(own.rows)
        assert sorted(own.reading.tolist()) == list(range(len(own.rows)))
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
    plans = [score_epoch(rows, rank=rank, ranks=ranks, batch_size=batch_size) for rank in range(ranks)]
    assert np.concatenate([own.rows for own in plans]).tolist() == list(range(len(rows)))
    assert all(own.reading.tolist() == list(range(len(own.rows))) for own in plans)
    assert sum(int(own.batch_rows.sum()) for own in plans) == len(rows)
    assert max(int(size) for own in plans for size in own.batch_rows) <= batch_size


def test_the_order_is_the_same_for_the_same_seed_and_epoch_only() -> None:
    rows = rows_of([300, 200])
    first = plan(rows, 0, 2, 16, epoch=1).rows
    assert np.array_equal(first, plan(rows, 0, 2, 16, epoch=1).rows)
    assert not np.array_equal(first, plan(rows, 0, 2, 16, epoch=2).rows)
    assert not np.array_equal(first, plan(rows, 0, 2, 16, epoch=1, seed=1).rows)


@pytest.mark.parametrize("encoding", ["raw", "jpeg", "tiles"])
def test_rows_are_read_in_runs_and_wait_for_at_most_a_window(encoding: Encoding) -> None:
    rows = rows_of([4000], encoding)
    own = plan(rows, 0, 1, 16)
    read = rows.row[own.rows[own.reading]]
    assert int(np.sum(np.diff(read) != 1)) + 1 <= 4000 // RUN_ROWS[encoding]
    # Read and not yet used, when the rows up to the place of use have been read.
    use = np.arange(len(own.rows))
    read_at = np.empty_like(use)
    read_at[own.reading] = use
    assert np.max(np.maximum.accumulate(read_at) - use) <= WINDOW_ROWS
    assert np.max(use - read_at) <= WINDOW_ROWS


def test_longer_runs_can_be_asked_for() -> None:
    rows = rows_of([4000])
    own = train_epoch(rows, seed=0, epoch=1, rank=0, ranks=1, batch_size=16, run_rows=50)
    read = rows.row[own.rows[own.reading]]
    assert int(np.sum(np.diff(read) != 1)) + 1 <= 80


def test_the_shuffle_mixes_classes_that_lie_apart_in_the_file() -> None:
    own = plan(rows_of([2000]), 0, 1, 32)
    halves = np.array([np.mean(own.rows[start : start + 32] < 1000) for start in range(0, 1984, 32)])
    assert halves.min() > 0.15
    assert halves.max() < 0.85
    # As a perfect shuffle's: the standard deviation of a share among 32 is 0.088.
    assert 0.06 < halves.std() < 0.12


@given(shard_sizes, st.integers(1, 3), st.integers(1, 16), st.floats(0, 1))
def test_the_rest_of_an_epoch_is_that_of_the_whole_one(
    sizes: list[int], ranks: int, batch_size: int, share: float
) -> None:
    rows = rows_of(sizes)
    if len(rows) < ranks:
        return
    whole = plan(rows, 0, ranks, batch_size)
    step = int(share * whole.steps)
    rest = whole.from_step(step)
    used = int(whole.batch_rows[:step].sum())
    assert rest.first_step == step
    assert rest.steps == whole.steps - step
    assert rest.rows.tolist() == whole.rows[used:].tolist()
    assert rest.batch_rows.tolist() == whole.batch_rows[step:].tolist()
    kept = [place for place in whole.rows[whole.reading].tolist() if place in set(rest.rows.tolist())]
    assert rest.rows[rest.reading].tolist() == kept
    assert rest.from_step(whole.steps).steps == 0
    for impossible in (step - 1, whole.steps + 1):
        with pytest.raises(ValueError, match="is none of"):
            rest.from_step(impossible)


def test_rows_that_are_drawn_several_times_come_so_often_and_others_not_at_all() -> None:
    rows = rows_of([100, 50])
    draws = np.sort(np.random.default_rng(0).choice(150, 400))
    plans = [
        train_epoch(rows, seed=0, epoch=1, rank=rank, ranks=2, batch_size=16, window_mb=WINDOW_MB, draws=draws)
        for rank in range(2)
    ]
    assert sorted(np.concatenate([own.rows for own in plans]).tolist()) == draws.tolist()
