from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.train_config import TrainConfig
from tasks.training.epoch import Ints, RankEpoch, batch_rows
from tasks.training.epoch_parts import EpochPart, place_in_epoch, plan_after
from tasks.training.schedule import LearningRate
from tests.unit.tasks.training.test_epoch import plan, rows_of, shard_sizes

changes = st.lists(st.tuples(st.integers(1, 5), st.floats(0, 1)), min_size=1, max_size=4)


def plans_of(
    sizes: list[int], done: list[EpochPart], ranks: int, draws: Ints, *, batch_size: int = 4
) -> list[RankEpoch]:
    rows = rows_of(sizes)
    return [
        plan_after(rows, done, seed=3, epoch=2, rank=rank, ranks=ranks, batch_size=batch_size, draws=draws, window_mb=2)
        for rank in range(ranks)
    ]


@given(shard_sizes, changes, st.booleans())
def test_whatever_ranks_die_or_come_every_row_is_used_once_in_equally_many_steps(
    sizes: list[int], course: list[tuple[int, float]], twice: bool
) -> None:
    """Each part of the epoch is made by some ranks, which end after a share of the steps that they planned."""
    draws = np.repeat(np.arange(sum(sizes)), 2 if twice else 1)
    if len(draws) < course[0][0]:
        return
    done: list[EpochPart] = []
    used: list[int] = []
    for number, (ranks, share) in enumerate(course):
        left = len(draws) - len(used)
        if left < ranks:
            return
        plans = plans_of(sizes, done, ranks, draws)
        assert {(own.steps, own.first_step, own.rows_before) for own in plans} == {
            (plans[0].steps, sum(part.steps for part in done), len(used))
        }
        assert np.array_equal(plans[0].all_rows, np.sum([own.batch_rows for own in plans], axis=0))
        assert min(int(own.batch_rows.min()) for own in plans) >= 1
        steps = plans[0].steps if number == len(course) - 1 else int(share * plans[0].steps)
        used += [int(row) for own in plans for row in own.rows[: own.batch_rows[:steps].sum()]]
        if steps:
            done.append(EpochPart(ranks=ranks, steps=steps))
    assert sorted(used) == draws.tolist()
    # Who comes later still finds nothing to do.
    assert [own.steps for own in plans_of(sizes, done, 2, draws)] == [0, 0]


def test_an_epoch_in_which_nothing_happened_is_planned_as_ever() -> None:
    sizes = [50, 31]
    [first, second] = plans_of(sizes, [], 2, np.arange(81), batch_size=16)
    for rank, own in enumerate((first, second)):
        same = plan(rows_of(sizes), rank, 2, 16, epoch=2, seed=3)
        assert own.rows.tolist() == same.rows.tolist()
        assert own.reading.tolist() == same.reading.tolist()


def test_the_rest_is_shuffled_anew() -> None:
    [whole] = plans_of([400], [], 1, np.arange(400))
    [rest] = plans_of([400], [EpochPart(ranks=2, steps=20)], 1, np.arange(400))
    left = set(rest.rows.tolist())
    assert len(left) == 240
    assert rest.rows.tolist() != [row for row in whole.rows.tolist() if row in left]


def test_ranks_that_come_when_fewer_rows_are_left_all_have_one() -> None:
    [own] = plans_of([9], [], 1, np.arange(9))
    done = [EpochPart(ranks=1, steps=own.steps - 1)]
    left = own.from_step(own.steps - 1).rows
    plans = plans_of([9], done, 5, np.arange(9))
    assert [one.steps for one in plans] == [1] * 5
    assert {row for one in plans for row in one.rows.tolist()} == set(left.tolist())


@pytest.mark.parametrize("ranks", [1, 2, 5])
def test_the_learning_rate_keeps_its_place(ranks: int) -> None:
    """After half of the rows it is that of the middle of the epoch, and it ends where it would have."""
    draws = np.arange(960)
    steps = len(batch_rows(len(draws), ranks=ranks, batch_size=4))
    rate = LearningRate.of(TrainConfig(epochs=2), ranks=ranks, steps_per_epoch=steps)
    [own, *_] = plans_of([960], [EpochPart(ranks=3, steps=40)], ranks, draws)
    places = [place_in_epoch(own, step, steps) for step in range(own.first_step, own.first_step + own.steps)]
    assert places[0] == pytest.approx(steps / 2)
    assert np.all(np.diff(places) > 0)
    assert steps - 1 <= places[-1] < steps
    assert rate.at(places[0]) == pytest.approx(1e-3 * ranks * 0.5 * (1 + np.cos(np.pi / 4)))
    [undisturbed, *_] = plans_of([960], [], ranks, draws)
    assert [place_in_epoch(undisturbed, step, steps) for step in range(steps)] == list(range(steps))
