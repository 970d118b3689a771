"""Pictures of a transfer benchmark: throughput and time by size for each pair of sites, and the trend."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from statistics import median

from tasks.report.benchmark_data import Series
from tasks.report.benchmark_figures import draw_lines, draw_sizes
from transfer.benchmark import Trial, read_trials
from transfer.grouping import arrived, file_bytes, grouped, median_rate_of, of_kind, route, way


def draw_pictures(trials: Sequence[Trial], folder: Path) -> list[tuple[str, Path]]:
    """Draw the pictures into `folder`; give caption and file name of each."""
    pictures = []
    for (source, destination), found in grouped(of_kind(trials, "size"), route).items():
        by_protocol, seconds = [], []
        for protocol, ones in grouped(arrived(found), lambda one: one.cell.protocol).items():
            by_size = sorted(grouped(ones, file_bytes).items())
            by_protocol.append(Series(name=protocol, points=tuple((x / 1e6, median_rate_of(y)) for x, y in by_size)))
            times = tuple((x / 1e6, median(one.seconds for one in y)) for x, y in by_size)
            seconds.append(Series(name=protocol, points=times))
        if by_protocol:
            path = folder / f"sizes-{source}-{destination}.png"
            title = f"{source} → {destination}: throughput and time by file size"
            draw_sizes(path, by_protocol, seconds, title=title)
            pictures.append((title, Path(path.name)))
    trend = _trend(folder, trials)
    if trend:
        draw_lines(
            folder / "trend.png",
            trend,
            title="Trend over the rounds",
            x_label="round",
            y_label="median throughput (Mb/s)",
        )
        pictures.append(("Trend over the rounds of this benchmark", Path("trend.png")))
    return pictures


def _trend(folder: Path, trials: Sequence[Trial]) -> list[Series]:
    """Median rate of the largest file by round, oldest first; nothing with fewer than two rounds."""
    rounds = [read_trials(path) for path in sorted((folder / "rounds").glob("*.jsonl"))] + [list(trials)]
    lines: dict[tuple[str, str, str], list[tuple[float, float]]] = defaultdict(list)
    for number, found in enumerate(rounds, start=1):
        good = [one for one in of_kind(found, "size") if one.repeat > 0 and one.error is None]
        for named, ones in grouped(good, way).items():
            largest = max(one.cell.file_bytes for one in ones)
            lines[named].append((number, median_rate_of([one for one in ones if one.cell.file_bytes == largest])))
    if len(rounds) < 2:
        return []
    return [
        Series(name=f"{named[0]} → {named[1]}, {named[2]}", points=tuple(points)) for named, points in lines.items()
    ]
