"""Pictures of a transfer benchmark: throughput and time by size for each pair of sites, and the trend."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from statistics import median

from flows.transfer_benchmark.trend import RoundRate
from tasks.report.benchmark_data import Series
from tasks.report.benchmark_figures import draw_rounds, draw_sizes
from tasks.report.formats import size
from transfer.benchmark import Trial
from transfer.grouping import arrived, file_bytes, grouped, median_rate_of, of_kind, route


def draw_pictures(trials: Sequence[Trial], trend: Sequence[RoundRate], folder: Path) -> list[tuple[str, Path]]:
    """Draw the pictures into `folder`; give caption and file name of each."""
    pictures = []
    for (source, destination), found in sorted(grouped(of_kind(trials, "size"), route).items()):
        by_protocol, seconds = [], []
        for protocol, ones in sorted(grouped(arrived(found), lambda one: one.cell.protocol).items()):
            by_size = sorted(grouped(ones, file_bytes).items())
            by_protocol.append(Series(name=protocol, points=tuple((x / 1e6, median_rate_of(y)) for x, y in by_size)))
            times = tuple((x / 1e6, median(one.seconds for one in y)) for x, y in by_size)
            seconds.append(Series(name=protocol, points=times))
        if by_protocol:
            path = folder / f"sizes-{source}-{destination}.png"
            title = f"{source} → {destination}: throughput and time by file size"
            draw_sizes(path, by_protocol, seconds, title=title)
            pictures.append((title, Path(path.name)))
    if len({one.number for one in trend}) > 1:
        path = folder / "trend.png"
        draw_rounds(path, _lines(trend), title="Trend over the rounds", y_label="median throughput (Mb/s)")
        pictures.append(("Trend over the rounds of this benchmark", Path(path.name)))
    return pictures


def _lines(trend: Sequence[RoundRate]) -> list[Series]:
    lines: dict[tuple[str, str, str, int], list[tuple[float, float]]] = defaultdict(list)
    for one in trend:
        lines[*one.way, one.file_bytes].append((one.number, one.rate.median))
    return [
        Series(name=f"{source} → {destination}, {protocol}, {size(file_bytes)}", points=tuple(points))
        for (source, destination, protocol, file_bytes), points in lines.items()
    ]
