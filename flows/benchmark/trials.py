"""The trials of a benchmark: which are missing, how they are measured and kept, which count."""

from __future__ import annotations

import logging
from collections.abc import Callable, Hashable, Iterable, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar

from prefect.artifacts import create_progress_artifact, update_progress_artifact

from tasks import atomic

log = logging.getLogger(__name__)
TRIALS = "trials.jsonl"
"""File of the trials in the output folder of a benchmark."""


class Measured(Protocol):
    """What the trials of all benchmarks have in common."""

    @property
    def cell(self) -> Hashable:
        """What was measured."""

    @property
    def repeat(self) -> int:
        """Which measurement of it; 0 is a warm-up."""

    @property
    def error(self) -> str | None:
        """Why it failed, or None."""

    def model_dump_json(self) -> str:
        """Give it as a line of JSON."""


C = TypeVar("C", bound=Hashable)
T = TypeVar("T", bound=Measured)


def missing_trials(order: Sequence[tuple[C, int]], trials: Iterable[Measured]) -> list[tuple[C, int]]:
    """Give those of an order that no trial has measured; one that failed is missing."""
    done = {(trial.cell, trial.repeat) for trial in trials if trial.error is None}
    return [one for one in order if one not in done]


def last_trials(order: Sequence[tuple[Hashable, int]], trials: Iterable[T]) -> list[T]:
    """Give the last trial of each measurement of an order: one that failed may have been tried again."""
    last = {(trial.cell, trial.repeat): trial for trial in trials}
    return [last[one] for one in order if one in last]


def measure_each(
    missing: Sequence[tuple[C, int]], measure: Callable[[C, int], T], path: Path, line: Callable[[T], str]
) -> None:
    """Measure one after the other, each a line of `path` at once, a line of the log, and a step of the progress.

    Parameters
    ----------
    line
        Tells in one line what a trial has measured.
    """
    progress: Any = create_progress_artifact(0.0, key="benchmark-progress", description=f"{len(missing)} trials")
    for number, (cell, repeat) in enumerate(missing, start=1):
        trial = measure(cell, repeat)
        atomic.append_line(path, trial.model_dump_json().encode())
        told = f"{number} of {len(missing)}: {line(trial)}"
        log.info("trial %s", told)
        update_progress_artifact(progress, 100.0 * number / len(missing), description=told)
