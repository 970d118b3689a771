"""The pictures of a training benchmark: the paper's Figures 9 and 10."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from tasks import atomic
from tasks.artifacts import Record
from tasks.report.benchmark_figures import COLOURS

_WIDTH = 0.8


class TimeBar(Record):
    """One training: seconds of start-up and of steps, and the least and most that the steps take."""

    group: str
    name: str
    start_up_s: float
    steps_s: float
    least_s: float
    most_s: float


def draw_training_times(path: Path, bars: Sequence[TimeBar], *, title: str) -> None:
    """Draw bars of time: a group an architecture, in it a bar for each number of ranks, start-up in grey below."""
    figure = Figure(figsize=(8.0, 4.2), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    groups = list(dict.fromkeys(bar.group for bar in bars))
    names = list(dict.fromkeys(bar.name for bar in bars))
    width = _WIDTH / len(names)
    for number, name in enumerate(names):
        own = [bar for bar in bars if bar.name == name]
        places = [groups.index(bar.group) + (number - (len(names) - 1) / 2) * width for bar in own]
        start, steps = [bar.start_up_s for bar in own], [bar.steps_s for bar in own]
        spread = [[bar.steps_s - bar.least_s for bar in own], [bar.most_s - bar.steps_s for bar in own]]
        label = "start-up" if number == 0 else None
        axes.bar(places, start, 0.9 * width, color="#bbbbbb", label=label)
        colour = COLOURS[number % len(COLOURS)]
        axes.bar(places, steps, 0.9 * width, bottom=start, yerr=spread, capsize=3, color=colour, label=name)
    axes.set_xticks(range(len(groups)), groups)
    axes.set_ylabel("time (s)")
    axes.set_title(title, fontsize=10)
    axes.grid(alpha=0.3, axis="y")
    axes.legend(fontsize=8)
    _save(figure, path)


def draw_growth(
    path: Path,
    points: Sequence[tuple[float, float, float, float, float]],
    line: Sequence[tuple[float, float]],
    *,
    title: str,
) -> None:
    """Draw seconds an epoch against patches with the fitted line, and below it what is left.

    Parameters
    ----------
    points
        Patches, median, least and most seconds, and measured less fitted seconds.
    line
        Patches and seconds along the line.
    """
    figure = Figure(figsize=(6.5, 5.0), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    at, middle, least, most, left = (list(column) for column in zip(*points, strict=True))
    spread = [
        [one - low for one, low in zip(middle, least, strict=True)],
        [high - one for one, high in zip(middle, most, strict=True)],
    ]
    upper.plot(*zip(*line, strict=True), "-", color=COLOURS[0], label="line")
    upper.errorbar(at, middle, yerr=spread, fmt="o", color=COLOURS[1], capsize=3, label="median, least and most")
    upper.set_ylabel("time an epoch (s)")
    upper.set_xlim(left=0)
    upper.set_ylim(bottom=0)
    upper.set_title(title, fontsize=10)
    upper.legend(fontsize=8)
    lower.axhline(0, color=COLOURS[0], linewidth=1)
    lower.plot(at, left, "o", color=COLOURS[1])
    lower.set_ylabel("less line (s)")
    lower.set_xlabel("patches")
    for axes in (upper, lower):
        axes.grid(alpha=0.3)
    _save(figure, path)


def _save(figure: Figure, path: Path) -> None:
    with atomic.atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", metadata={"Software": "CamNet"})
