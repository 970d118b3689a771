"""Loss, AUC, learning rate and speed by epoch as a picture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from tasks import atomic

_TRAIN, _VALIDATION, _BEST = "#0072b2", "#d55e00", "#767676"


def draw_curves(path: Path, log: list[dict[str, Any]], *, title: str) -> None:
    """Draw the epochs of a training log as PNG.

    Parameters
    ----------
    path
        The picture.
    log
        Rows of ``log.jsonl``; those of other events than ``epoch`` are passed over.
    title
        Line above the four panels.
    """
    epochs = [row for row in log if row["event"] == "epoch"]
    # Figures without pyplot: no state is shared with whatever else draws in this process.
    figure = Figure(figsize=(9.0, 6.8), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title, fontsize=11)
    (loss, auc), (rate, speed) = figure.subplots(2, 2)
    _line(loss, epochs, "loss", "training (as the configuration weights it)", _TRAIN)
    _line(loss, epochs, "validation_loss", "validation", _VALIDATION)
    _line(auc, epochs, "validation_auc", "validation", _VALIDATION)
    _line(rate, epochs, "learning_rate", "at the end of the epoch", _TRAIN)
    _line(speed, epochs, "patches_per_s", "training, all ranks", _TRAIN)
    loss.set(ylabel="cross-entropy (nats a patch)")
    auc.set(ylabel="area under the ROC curve")
    rate.set(ylabel="learning rate")
    speed.set(ylabel="patches a second")
    for axes in (loss, rate, speed):
        axes.set_ylim(0, 1.05 * axes.get_ylim()[1])
    best = [row["epoch"] for row in epochs if row["best"]][-1:]
    partly = [row["epoch"] for row in epochs if not row.get("validation_complete", True)]
    for axes in (loss, auc) if partly else ():
        axes.axvspan(0.5, max(partly) + 0.5, color=_BEST, alpha=0.15, label="validated on a part of the patches")
    for axes in (loss, auc, rate, speed):
        for epoch in best:
            axes.axvline(epoch, color=_BEST, linestyle=":", label=f"best epoch ({epoch})")
        axes.set_xlabel("epoch")
        if len(epochs) == 1:
            axes.set_xlim(epochs[0]["epoch"] - 1, epochs[0]["epoch"] + 1)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
        if axes.get_legend_handles_labels()[0]:
            axes.legend(fontsize=8)
    with atomic.atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", metadata={"Software": "CamNet"})


def _line(axes: Axes, epochs: list[dict[str, Any]], key: str, label: str, colour: str) -> None:
    points = [(row["epoch"], row[key]) for row in epochs if row.get(key) is not None]
    if points:
        axes.plot(*zip(*points, strict=True), marker="o", markersize=4, color=colour, label=label)
