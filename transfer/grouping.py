"""Trials of a benchmark in groups."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable
from statistics import median
from typing import TypeVar

from transfer.benchmark import Trial

K = TypeVar("K", bound=Hashable)


def of_kind(trials: Iterable[Trial], kind: str) -> list[Trial]:
    """Choose the trials of one kind of cell."""
    return [trial for trial in trials if trial.cell.kind == kind]


def arrived(trials: Iterable[Trial]) -> list[Trial]:
    """Choose those in which all files arrived."""
    return [trial for trial in trials if trial.error is None]


def route(trial: Trial) -> tuple[str, str]:
    """Give source and destination."""
    return trial.cell.source, trial.cell.destination


def way(trial: Trial) -> tuple[str, str, str]:
    """Give source, destination and protocol."""
    return trial.cell.source, trial.cell.destination, trial.cell.protocol


def file_bytes(trial: Trial) -> int:
    """Give the size of each of its files."""
    return trial.cell.file_bytes


def grouped(trials: Iterable[Trial], key: Callable[[Trial], K]) -> dict[K, list[Trial]]:
    """Group by a key, in the order in which the keys appear."""
    groups: dict[K, list[Trial]] = defaultdict(list)
    for trial in trials:
        groups[key(trial)].append(trial)
    return dict(groups)


def rates(trials: Iterable[Trial]) -> list[float]:
    """List the rates in Mb/s of those that have one."""
    return [rate for trial in trials if (rate := trial.megabits_per_s) is not None]


def median_rate_of(trials: Iterable[Trial]) -> float:
    """Give the median rate in Mb/s; there has to be one."""
    return median(rates(trials))
