"""ROC curves and reliability diagrams of a model's splits as pictures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from tasks import atomic
from tasks.config import Split
from tasks.training.card import Estimate, SplitMetrics

COLOURS: dict[Split, str] = {"train": "#0072b2", "validation": "#d55e00", "test": "#009e73"}
_EVEN = "#767676"


def draw_roc(path: Path, metrics: Sequence[SplitMetrics], *, title: str) -> None:
    """Draw the ROC curve of each split that has both classes, with its operating point."""
    figure, axes = _square(title)
    axes.plot([0, 1], [0, 1], color=_EVEN, linestyle=":", label="chance")
    for one in metrics:
        if one.roc is None or one.auc is None:
            continue
        label = f"{one.split}, AUC {_with_interval(one.auc)}"
        axes.plot(one.roc.false_positive_rate, one.roc.true_positive_rate, color=COLOURS[one.split], label=label)
        _operating_point(axes, one)
    axes.set_xlabel("1 - specificity (share of normal patches called tumour)")
    axes.set_ylabel("sensitivity (share of tumour patches called tumour)")
    _save(figure, axes, path)


def draw_reliability(path: Path, metrics: Sequence[SplitMetrics], *, title: str) -> None:
    """Draw the share of tumour against the probability that was stated, and how many patches state it."""
    figure, axes = _square(title)
    axes.plot([0, 1], [0, 1], color=_EVEN, linestyle=":", label="what is stated is found")
    for one in metrics:
        if one.calibration is None:
            continue
        bins, colour = one.calibration.bins, COLOURS[one.split]
        error = one.calibration.expected_calibration_error
        label = f"{one.split}, calibration error {error:.3f}, Brier score {_with_interval(one.calibration.brier)}"
        stated, found = [k.probability for k in bins], [k.tumour_share for k in bins]
        axes.plot(stated, found, color=colour, label=label)
        # Areas in proportion to the patches: a bin with few of them says little.
        axes.scatter(
            stated, found, s=[8 + 200 * k.rows / one.rows for k in bins], color=colour, alpha=0.6, linewidths=0
        )
    axes.set_xlabel("stated probability of tumour (mean of a bin)")
    axes.set_ylabel("share of tumour patches in the bin")
    _save(figure, axes, path)


def _square(title: str) -> tuple[Figure, Axes]:
    # Figures without pyplot: no state is shared with whatever else draws in this process.
    figure = Figure(figsize=(5.6, 5.6), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title, fontsize=10)
    axes = figure.subplots()
    axes.set_aspect("equal")
    axes.set_xlim(-0.02, 1.02)
    axes.set_ylim(-0.02, 1.02)
    axes.grid(alpha=0.3)
    return figure, axes


def _operating_point(axes: Axes, one: SplitMetrics) -> None:
    if one.confusion is None or one.confusion.sensitivity is None or one.confusion.specificity is None:
        return
    place = (1 - one.confusion.specificity.value, one.confusion.sensitivity.value)
    label = f"{one.split} at the threshold {one.threshold:.3g}"
    axes.plot(*place, marker="o", linestyle="none", color=COLOURS[one.split], label=label)


def _with_interval(estimate: Estimate) -> str:
    if estimate.low is None or estimate.high is None:
        return f"{estimate.value:.3f}"
    return f"{estimate.value:.3f} ({estimate.low:.3f} to {estimate.high:.3f})"


def _save(figure: Figure, axes: Axes, path: Path) -> None:
    axes.legend(fontsize=8, loc="lower right")
    with atomic.atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", metadata={"Software": "CamNet"})
