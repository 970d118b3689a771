"""Measurements of the training benchmark made up of round numbers."""

from __future__ import annotations

from flows.training_benchmark.plan import Cell
from flows.training_benchmark.trial import Epoch, Trial


def made_trial(
    cell: Cell,
    repeat: int = 1,
    *,
    epoch_s: float | None = None,
    parameters: int = 1_000_000,
    waiting_share: float = 0.01,
) -> Trial:
    """Make a training of three epochs: 1 s an epoch and 0.1 s a patch, halved by two ranks; 10 s for the first one.

    Several ranks average 4 MB in 0.2 s of each step.
    """
    seconds = (1 + 0.1 * cell.rows) / cell.ranks if epoch_s is None else epoch_s
    steps = max(1, cell.rows // 8)
    epoch = Epoch(steps=steps, seconds=seconds, waiting_s=waiting_share * seconds, patches_per_s=cell.rows / seconds)
    several = cell.ranks > 1
    return Trial(
        cell=cell,
        repeat=repeat,
        start="2026-03-01T10:00:00+00:00",
        load=0.5,
        load_after=1.5,
        wall_s=60.0,
        start_up_s=20.0,
        epochs=(epoch.model_copy(update={"seconds": seconds + 10}), epoch, epoch),
        rows=cell.rows,
        parameters=parameters,
        all_reduce_s=(0.2,) * (2 * steps) if several else (),
        gradient_bytes=4 * parameters if several else 0,
    )


def failed_trial(cell: Cell, error: str) -> Trial:
    """Make a training that failed."""
    return Trial(cell=cell, repeat=1, start="2026-03-01T10:00:00+00:00", load=0.5, rows=cell.rows, error=error)
