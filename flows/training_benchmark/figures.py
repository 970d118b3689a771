"""What the measurements of a training benchmark come to: medians with their ranges, and the line of Figure 10."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np

from flows.training_benchmark.plan import Cell
from flows.training_benchmark.trial import Trial
from tasks.least_squares import nonnegative_least_squares

FIGURE_EPOCHS = 10
"""Of the paper's Figure 9."""
_LEAST_POINTS = 2


@dataclass(frozen=True)
class Spread:
    """Median, least and most of some measurements."""

    median: float
    least: float
    most: float
    n: int

    @classmethod
    def of(cls, values: Iterable[float]) -> Spread:
        """Describe at least one value."""
        found = sorted(values)
        return cls(median(found), found[0], found[-1], len(found))


@dataclass(frozen=True)
class CellFigures:
    """All of one cell.

    Attributes
    ----------
    rows, parameters, trials
        Patches of an epoch, parameters that train, and trainings.
    epoch_s, step_s, images_per_s, waiting_share
        Of the epochs that count.
    start_up_s
        Up to the first step; of the trainings.
    first_epoch_s
        With the compilation of the step.
    all_reduce_s
        Of the steps that count; None of one rank.
    gradient_bytes
        That a rank hands in at a step.
    """

    cell: Cell
    rows: int
    parameters: int
    trials: int
    epoch_s: Spread
    step_s: Spread
    images_per_s: Spread
    waiting_share: Spread
    start_up_s: Spread
    first_epoch_s: Spread
    all_reduce_s: Spread | None
    gradient_bytes: int

    @property
    def ten_start_up_s(self) -> float:
        """What a training takes beside its steps: up to the first, and what the first epoch takes longer."""
        return self.start_up_s.median + max(0.0, self.first_epoch_s.median - self.epoch_s.median)

    @property
    def ten_epochs_s(self) -> float:
        """Calculated time of a training of ten epochs."""
        return self.ten_start_up_s + FIGURE_EPOCHS * self.epoch_s.median

    @property
    def all_reduce_share(self) -> float | None:
        """Share of a step in which gradients were averaged."""
        return None if self.all_reduce_s is None else self.all_reduce_s.median / self.step_s.median


@dataclass(frozen=True)
class Growth:
    """Seconds an epoch as a line over patches, fitted to all epochs that count; neither part is negative.

    Attributes
    ----------
    points
        Patches, measured seconds, and measured less fitted seconds.
    r_squared
        Share of the variance that the line explains; None where all measurements are equal.
    """

    start_s: float
    s_per_patch: float
    points: tuple[tuple[int, Spread, float], ...]
    rms_s: float
    r_squared: float | None

    def at(self, rows: int) -> float:
        """Seconds that the line says."""
        return self.start_s + self.s_per_patch * rows


def cell_figures(trials: Sequence[Trial]) -> dict[Cell, CellFigures]:
    """Describe each cell that was measured without a failure at least once."""
    of_cell: dict[Cell, list[Trial]] = defaultdict(list)
    for trial in trials:
        if trial.error is None:
            of_cell[trial.cell].append(trial)
    return {cell: _figures(cell, found) for cell, found in of_cell.items()}


def growth(trials: Sequence[Trial], cells: Sequence[Cell]) -> Growth | None:
    """Fit the line to all epochs of `cells`; None with fewer than two numbers of patches."""
    of_rows: dict[int, list[float]] = defaultdict(list)
    for trial in trials:
        if trial.error is None and trial.cell in cells:
            of_rows[trial.rows] += [epoch.seconds for epoch in trial.counted]
    if len(of_rows) < _LEAST_POINTS:
        return None
    rows = np.array([rows for rows, found in of_rows.items() for _ in found], float)
    seconds = np.array([one for found in of_rows.values() for one in found])
    start_s, s_per_patch = nonnegative_least_squares(np.stack([np.ones_like(rows), rows], axis=1), seconds).tolist()
    left = seconds - start_s - s_per_patch * rows
    variance = float(seconds.var())
    points = tuple(
        (count, Spread.of(found), median(found) - start_s - s_per_patch * count)
        for count, found in sorted(of_rows.items())
    )
    square = float(np.mean(left**2))
    return Growth(start_s, s_per_patch, points, square**0.5, 1 - square / variance if variance else None)


def _figures(cell: Cell, trials: Sequence[Trial]) -> CellFigures:
    epochs = [epoch for trial in trials for epoch in trial.counted]
    averages = [seconds for trial in trials for seconds in trial.all_reduce_s]
    return CellFigures(
        cell=cell,
        rows=trials[0].rows,
        parameters=trials[0].parameters,
        trials=len(trials),
        epoch_s=Spread.of(epoch.seconds for epoch in epochs),
        step_s=Spread.of(epoch.seconds / epoch.steps for epoch in epochs),
        # The log's own rate has one decimal only.
        images_per_s=Spread.of(trial.rows / epoch.seconds for trial in trials for epoch in trial.counted),
        waiting_share=Spread.of(epoch.waiting_s / epoch.seconds for epoch in epochs),
        start_up_s=Spread.of(trial.start_up_s for trial in trials),
        first_epoch_s=Spread.of(trial.epochs[0].seconds for trial in trials),
        all_reduce_s=Spread.of(averages) if averages else None,
        gradient_bytes=trials[0].gradient_bytes,
    )
