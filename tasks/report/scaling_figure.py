"""The picture of a preprocessing benchmark: the paper's Figure 7, measured and predicted."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter

from tasks import atomic
from tasks.artifacts import Record
from tasks.report.benchmark_figures import COLOURS, MARKERS

_FEW = 16
# Numbers between powers of ten would stand on each other.
_WIDE = 1000


class Curve(Record):
    """One line of the model, with what stands on it.

    Attributes
    ----------
    kind
        What is shown: its lines have one colour in all panels.
    points
        x and seconds, along the line.
    marked
        x and seconds of marks on the line.
    measured
        x, and median, least and most seconds.
    dashed
        The line is.
    """

    kind: str
    name: str
    points: tuple[tuple[float, float], ...]
    marked: tuple[tuple[float, float], ...] = ()
    measured: tuple[tuple[float, float, float, float], ...] = ()
    dashed: bool = False


class Panel(Record):
    """One pair of axes; `others` are points of somebody else, by their names."""

    title: str
    x_label: str
    curves: tuple[Curve, ...]
    others: tuple[tuple[str, float, float], ...] = ()


def draw_scaling(path: Path, panels: Sequence[Panel]) -> None:
    """Draw time against workers or nodes, a panel beside the other."""
    figure = Figure(figsize=(5.6 * len(panels), 4.4), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    kinds = list(dict.fromkeys(curve.kind for panel in panels for curve in panel.curves))
    for axes, panel in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        _draw(axes, panel, kinds)
    with atomic.atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", metadata={"Software": "CamNet"})


def _draw(axes: Axes, panel: Panel, kinds: Sequence[str]) -> None:
    for curve in panel.curves:
        number = kinds.index(curve.kind)
        colour, marker = COLOURS[number % len(COLOURS)], MARKERS[number % len(MARKERS)]
        line = "--" if curve.dashed else "-"
        axes.plot(*zip(*curve.points, strict=True), line, color=colour, label=f"{curve.name}, model")
        if curve.marked:
            axes.plot(*zip(*curve.marked, strict=True), marker, color=colour, markersize=6)
        if curve.measured:
            at, middle, least, most = (list(column) for column in zip(*curve.measured, strict=True))
            spread = [
                [one - low for one, low in zip(middle, least, strict=True)],
                [high - one for one, high in zip(middle, most, strict=True)],
            ]
            label = f"{curve.name}, measured"
            axes.errorbar(at, middle, yerr=spread, fmt=marker, color=colour, capsize=3, label=label)
    for name, place, seconds in panel.others:
        axes.plot([place], [seconds], "k*", markersize=11, label=name)
    _scale(axes, panel)
    axes.set_title(panel.title, fontsize=10)
    axes.set_xlabel(panel.x_label)
    axes.set_ylabel("time (s)")
    axes.grid(alpha=0.3, which="both")
    axes.legend(fontsize=8)


def _scale(axes: Axes, panel: Panel) -> None:
    """Make the axes logarithmic; both begin at 0 where only a few workers are shown."""
    places = [point[0] for curve in panel.curves for point in curve.points]
    if max(places) <= _FEW:
        axes.set_xlim(0, max(places) + 1)
        axes.set_ylim(bottom=0)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        return
    axes.set_xscale("log")
    axes.set_yscale("log")
    for axis in (axes.xaxis, axes.yaxis):
        least, most = axis.get_view_interval()
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))
        if most < _WIDE * least:
            axis.set_minor_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}" if _is_round(value) else ""))
        else:
            axis.set_minor_formatter(NullFormatter())


def _is_round(value: float) -> bool:
    """Whether a tick between two powers of ten gets its number: 2 and 5 do."""
    return f"{value:e}"[0] in "25"
