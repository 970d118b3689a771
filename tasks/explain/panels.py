"""The explanation of one slide as a picture for people: its highest scored patches and what they are scored for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from tasks import atomic
from tasks.explain.overlay import overlay
from tasks.inference.scores import Scores

_COLUMNS = ("patch", "Grad-CAM", "Grad-CAM++", "Grad-CAM, random weights")
_LABELS = {1: "tumour", 0: "normal", -1: "not known"}
_DPI = 110
_WIDTH_IN, _SIDE_IN, _TEXT_IN, _GAP_IN, _TOP_IN, _BOTTOM_IN = 10.0, 0.15, 1.65, 0.1, 0.85, 0.65


@dataclass(frozen=True, slots=True)
class PatchPanel:
    """One row of the picture.

    Attributes
    ----------
    pixels
        uint8 (H, W, 3), RGB.
    gradcam, gradcam_plus_plus, random
        float32 (H, W) in [0, 1]; `random` is Grad-CAM of the same network with random weights.
    random_correlation
        Pearson correlation of Grad-CAM with `random` at the layer's resolution; None when one is constant.
    """

    x_level0_px: int
    y_level0_px: int
    probability: float
    label: int
    pixels: NDArray[np.uint8]
    gradcam: NDArray[np.float32]
    gradcam_plus_plus: NDArray[np.float32]
    random: NDArray[np.float32]
    random_correlation: float | None


def top_rows(scores: Scores, count: int) -> list[int]:
    """Rows of the highest scored patches that do not overlap each other, best first (ties by position in the file)."""
    side_px = scores.attributes.patch_level0_px
    chosen: list[int] = []
    for row in np.argsort(-scores.probability, kind="stable").tolist():
        if len(chosen) == count:
            break
        apart_x = np.abs(scores.x_level0_px[chosen] - scores.x_level0_px[row]) >= side_px
        apart_y = np.abs(scores.y_level0_px[chosen] - scores.y_level0_px[row]) >= side_px
        if (apart_x | apart_y).all():
            chosen.append(row)
    return chosen


def draw_panels(path: Path, slide: str, layer: str, panels: Sequence[PatchPanel]) -> None:
    """Draw one row a patch: the patch, its maps, and the map of a network that has learned nothing.

    Raises
    ------
    PermanentFault, InputError
        The disk is full or the folder is not writable (see `tasks.atomic.atomic_path`).
    """
    side_in = (_WIDTH_IN - 2 * _SIDE_IN - _TEXT_IN - (len(_COLUMNS) - 1) * _GAP_IN) / len(_COLUMNS)
    height_in = _TOP_IN + _BOTTOM_IN + len(panels) * side_in + (len(panels) - 1) * _GAP_IN
    figure = Figure(figsize=(_WIDTH_IN, height_in), facecolor="white")
    FigureCanvasAgg(figure)
    for number, panel in enumerate(panels):
        bottom_in = height_in - _TOP_IN - side_in - number * (side_in + _GAP_IN)
        for column, image in enumerate(_images(panel)):
            left_in = _SIDE_IN + _TEXT_IN + column * (side_in + _GAP_IN)
            box = (left_in / _WIDTH_IN, bottom_in / height_in, side_in / _WIDTH_IN, side_in / height_in)
            axes = figure.add_axes(box)
            axes.set(xticks=[], yticks=[])
            axes.imshow(image)
            if number == 0:
                axes.set_title(_COLUMNS[column], fontsize=10)
        _mark_empty(figure.axes[-3:], (panel.gradcam, panel.gradcam_plus_plus, panel.random))
        middle = (bottom_in + side_in / 2) / height_in
        figure.text(_SIDE_IN / _WIDTH_IN, middle, _facts(panel), fontsize=10, va="center", linespacing=1.5)
    _words(figure, slide, layer)
    with atomic.atomic_path(path) as temporary:
        # Without the library's version in it, the same picture gives the same bytes.
        figure.savefig(temporary, format="png", dpi=_DPI, metadata={"Software": None})


def _images(panel: PatchPanel) -> list[NDArray[np.uint8]]:
    heats = (panel.gradcam, panel.gradcam_plus_plus, panel.random)
    return [panel.pixels, *(overlay(panel.pixels, heat) for heat in heats)]


def _mark_empty(axes: Sequence[Axes], heats: Sequence[NDArray[np.float32]]) -> None:
    for one, heat in zip(axes, heats, strict=True):
        if not heat.any():
            box = {"facecolor": "white", "edgecolor": "none", "alpha": 0.85}
            one.text(0.5, 0.5, "no evidence", fontsize=9, ha="center", va="center", transform=one.transAxes, bbox=box)


def _facts(panel: PatchPanel) -> str:
    r = "r not defined" if panel.random_correlation is None else f"r = {round(panel.random_correlation, 2) + 0.0:.2f}"
    return (
        f"score {panel.probability:.3f}\ntruth: {_LABELS[panel.label]}\n"
        f"x {panel.x_level0_px:,} px\ny {panel.y_level0_px:,} px\n{r}"
    )


def _words(figure: Figure, slide: str, layer: str) -> None:
    height_in = figure.get_figheight()
    x = _SIDE_IN / _WIDTH_IN
    # 70 characters of this size fill the width.
    size = min(13.0, 13 * 70 / len(slide))
    figure.text(x, 1 - 0.25 / height_in, slide, fontsize=size, fontweight="bold", va="center")
    note = (
        f"Highest scored patches; x and y: top left corner at level 0. Maps: evidence for tumour at layer {layer}, "
        "each scaled to its own maximum.\n"
        "r: correlation of Grad-CAM with the same network before any training; where it is high, the map shows the "
        "patch more than what was learned."
    )
    figure.text(x, 0.3 / height_in, note, fontsize=8, va="center", linespacing=1.4)
