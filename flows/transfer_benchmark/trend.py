"""How the rates of a transfer benchmark change from round to round."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tasks.report.benchmark_data import Grid
from tasks.report.formats import rate_interval, size
from transfer.benchmark import Trial, read_trials
from transfer.figures import MedianRate, median_rate
from transfer.grouping import arrived, file_bytes, grouped, of_kind, rates, way

ROUNDS = "rounds"
"""Folder of the finished rounds in the output folder of a benchmark, a file each."""


@dataclass(frozen=True)
class RoundRate:
    """What one round says of one protocol on one way.

    Attributes
    ----------
    number
        Of the round, from 1.
    start
        Of its first trial that counts (ISO 8601, UTC).
    way
        Source, destination and protocol.
    file_bytes
        Largest file that the round has measured on this way.
    """

    number: int
    start: str
    way: tuple[str, str, str]
    file_bytes: int
    rate: MedianRate


def round_rates(folder: Path, trials: Iterable[Trial]) -> list[RoundRate]:
    """Give the rates of the finished rounds in `folder` and of `trials`, the latest one; oldest first."""
    rounds = [read_trials(path) for path in sorted((folder / ROUNDS).glob("*.jsonl"))]
    found = []
    for number, one in enumerate([*rounds, list(trials)], start=1):
        counted = [trial for trial in arrived(of_kind(one, "size")) if trial.repeat > 0]
        start = min((trial.start for trial in counted), default="")
        for named, own in sorted(grouped(counted, way).items()):
            largest = max(map(file_bytes, own))
            rate = median_rate(rates(trial for trial in own if file_bytes(trial) == largest))
            if rate is not None:
                found.append(RoundRate(number, start, named, largest, rate))
    return found


def trend_grid(found: Sequence[RoundRate]) -> Grid:
    """Make a table of all rounds, the latest first; nothing with fewer than two."""
    rows = []
    for one in sorted(found, key=lambda one: (*one.way, one.file_bytes, -one.number)):
        alike = [other for other in found if (other.way, other.file_bytes) == (one.way, one.file_bytes)]
        before = [other for other in alike if other.number < one.number]
        change = f"{100 * (one.rate.median / before[-1].rate.median - 1):+.0f} %" if before else ""
        told = (f"{one.start[:16].replace('T', ' ')}", rate_interval(one.rate.median, one.rate.low, one.rate.high))
        rows.append((*one.way, size(one.file_bytes), str(one.number), *told, change))
    several = len({one.number for one in found}) > 1
    return Grid(
        key="transfer-benchmark-trend",
        title="Trend over the rounds",
        lead="The largest file of each round, the latest round first; the change is that against the round before.",
        absent="There is one round so far: the next call with this folder begins the second.",
        headings=("from", "to", "protocol", "file", "round", "start (UTC)", "Mb/s", "change"),
        rows=tuple(rows) if several else (),
    )
