"""An epoch that goes on with another number of ranks: what is left of it is planned anew, and nothing is read twice."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from pydantic import Field

from tasks.artifacts import Record
from tasks.training.cohort import LabelledRows
from tasks.training.epoch import WINDOW_MB, Ints, RankEpoch, train_epoch


class EpochPart(Record):
    """Steps of an epoch that so many ranks have made."""

    ranks: int = Field(ge=1)
    steps: int = Field(ge=1)


def plan_after(
    rows: LabelledRows,
    done: Sequence[EpochPart],
    *,
    seed: int,
    epoch: int,
    rank: int,
    ranks: int,
    batch_size: int,
    draws: Ints,
    window_mb: int = WINDOW_MB,
    run_rows: int | None = None,
) -> RankEpoch:
    """Plan the rest of an epoch for one rank, after `done`; as `train_epoch` does when nothing is done.

    The rows that no rank has used are those of a small epoch of its own: shuffled anew, disjoint parts, the same number
    of steps on each rank. When they are fewer than the ranks, which happens only when there are more ranks than before,
    some come twice so that no rank is without.

    Parameters
    ----------
    draws
        (n,) rising positions in `rows` of what the whole epoch has.

    Returns
    -------
    RankEpoch
        Its `first_step` is the number of steps that are done; none are left when all rows have been used.
    """

    def part(number: int, rank: int, ranks: int, left: Ints) -> RankEpoch:
        return train_epoch(
            rows,
            seed=seed,
            epoch=epoch,
            rank=rank,
            ranks=ranks,
            batch_size=batch_size,
            window_mb=window_mb,
            run_rows=run_rows,
            draws=left,
            part=number,
        )

    left, first_step = draws, 0
    for number, one in enumerate(done):
        rests = [part(number, other, one.ranks, _fed(left, one.ranks, number)) for other in range(one.ranks)]
        left = np.sort(np.concatenate([rest.from_step(one.steps).rows for rest in rests]))
        first_step += one.steps
    own = part(len(done), rank, ranks, _fed(left, ranks, len(done)))
    return replace(own, first_step=first_step, rows_before=len(draws) - len(left))


def place_in_epoch(plan: RankEpoch, step: int, steps_per_epoch: int) -> float:
    """Give the place of a step in an epoch of `steps_per_epoch` steps, by the share of the rows that came before.

    It is `step` itself unless the number of ranks has changed within the epoch.

    Parameters
    ----------
    plan
        Of the epoch, or as `plan_after` gives it.
    step
        Number of steps that came before, also with other ranks.
    """
    if plan.first_step == 0:
        return float(step)
    before = plan.rows_before / (plan.rows_before + int(plan.all_rows.sum()))
    return steps_per_epoch * (before + (1.0 - before) * (step - plan.first_step) / plan.steps)


def _fed(left: Ints, ranks: int, part: int) -> Ints:
    return np.sort(np.resize(left, ranks)) if part and 0 < len(left) < ranks else left
