"""Pictures of a transfer benchmark: the paper's Figure 8, streams against throughput, the trend."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter, NullLocator

from tasks import atomic
from tasks.report.benchmark_data import Series

# Okabe and Ito's colours, told apart by all.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#999999")
MARKERS = "osD^vP*X"
"""Of lines in pictures."""


def draw_sizes(path: Path, rates: Sequence[Series], seconds: Sequence[Series], *, title: str) -> None:
    """Draw throughput (left) and time (right) against file size, one line a protocol, both axes logarithmic."""
    figure = Figure(figsize=(10.5, 4.2), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title, fontsize=11)
    left, right = figure.subplots(1, 2)
    _lines(left, rates, "file size (MB)", "throughput, verified (Mb/s)")
    _lines(right, seconds, "file size (MB)", "time (s)")
    sizes_mb = sorted({x for line in rates for x, _ in line.points})
    for axes in (left, right):
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_xticks(sizes_mb, labels=[f"{one:g}" for one in sizes_mb])
        axes.xaxis.set_minor_locator(NullLocator())
        axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
        axes.yaxis.set_minor_formatter(NullFormatter())
    _save(figure, path)


def draw_rounds(path: Path, series: Sequence[Series], *, title: str, y_label: str) -> None:
    """Draw lines over the numbers of rounds, with their names beside them: there may be many."""
    figure = Figure(figsize=(10.5, max(3.8, 0.24 * len(series))), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title, fontsize=11)
    axes = figure.subplots()
    _lines(axes, series, "round", y_label)
    axes.legend(fontsize=9, loc="center left", bbox_to_anchor=(1.01, 0.5))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_ylim(bottom=0)
    _save(figure, path)


def _lines(axes: Axes, series: Sequence[Series], x_label: str, y_label: str) -> None:
    for number, line in enumerate(series):
        again = number // len(COLOURS)  # no two lines look alike
        colour, marker = COLOURS[number % len(COLOURS)], MARKERS[(number + again) % len(MARKERS)]
        x, y = zip(*line.points, strict=True)
        axes.plot(x, y, marker=marker, markersize=5, color=colour, label=line.name)
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    axes.grid(alpha=0.3, which="both")
    axes.legend(fontsize=9)


def _save(figure: Figure, path: Path) -> None:
    with atomic.atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", metadata={"Software": "CamNet"})
