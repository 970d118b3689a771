"""The heatmap of one slide as a picture for people: thumbnail and annotation beside the tumour probability."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from tasks import atomic
from tasks.inference.heatmap import ScoreGrid, upsample
from tasks.inference.scores import ScoreAttributes

COLOUR_MAP = "viridis"
_OPACITY = 0.65
_OUTLINE = "#d00000"
_WIDTH_IN, _DPI = 10.0, 120
_SIDE_IN, _GAP_IN, _BAR_IN, _TOP_IN, _BOTTOM_IN = 0.15, 0.2, 0.85, 0.8, 0.4
_MAX_PANEL_IN = 7.0
_MARGIN = 0.04
_TRUTHS = {"tumour": "tumour", "negative": "no tumour", "unknown": "not known"}


@dataclass(frozen=True, slots=True)
class HeatmapPicture:
    """What one picture shows.

    Attributes
    ----------
    attributes
        Of the scores: slide, size, µm per pixel, truth.
    grid
        Scores on their grid.
    thumbnail
        The whole slide, uint8 (height, width, 3), RGB.
    tumour
        Annotated tumour in the pixels of the thumbnail, bool (height, width); None without an annotation.
    slide_score
        Score of the slide in [0, 1].
    """

    attributes: ScoreAttributes
    grid: ScoreGrid
    thumbnail: NDArray[np.uint8]
    tumour: NDArray[np.bool_] | None
    slide_score: float

    @property
    def downsample_x(self) -> float:
        """Level-0 pixels per pixel of the thumbnail."""
        return self.attributes.slide_width_px / int(self.thumbnail.shape[1])

    @property
    def downsample_y(self) -> float:
        """Level-0 pixels per pixel of the thumbnail."""
        return self.attributes.slide_height_px / int(self.thumbnail.shape[0])


def draw_heatmap(path: Path, picture: HeatmapPicture) -> None:
    """Draw a picture to a PNG about 1,200 px wide, cut to the analysed and annotated part of the slide.

    Raises
    ------
    PermanentFault, InputError
        The disk is full or the folder is not writable (see `tasks.atomic.atomic_path`).
    """
    thumbnail = picture.thumbnail
    probability = upsample(
        picture.grid, (thumbnail.shape[0], thumbnail.shape[1]), picture.downsample_x, picture.downsample_y
    )
    view = _view(probability, picture.tumour)
    figure, left, right, bar = _frame(view)
    left.imshow(thumbnail[view])
    right.imshow(heat_image(thumbnail[view], probability[view]))
    left.set_title(_annotation_title(picture), fontsize=10)
    right.set_title("tumour probability (grey: not analysed)", fontsize=10)
    if picture.tumour is not None and picture.tumour[view].any():
        for axes in (left, right):
            _outline(axes, picture.tumour[view])
    figure.colorbar(ScalarMappable(Normalize(0, 1), COLOUR_MAP), cax=bar, alpha=_OPACITY, ticks=[0, 0.25, 0.5, 0.75, 1])
    bar.tick_params(labelsize=9)
    _scale_bar(left, picture)
    _headline(figure, picture)
    with atomic.atomic_path(path) as temporary:
        # Without the library's version in it, the same picture gives the same bytes.
        figure.savefig(temporary, format="png", dpi=_DPI, metadata={"Software": None})


def heat_image(thumbnail: NDArray[np.uint8], probability: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Lay probabilities in colour over a grey thumbnail; where there is none (NaN) the grey stays as it is.

    Returns
    -------
    NDArray[np.uint8]
        (height, width, 3), RGB.
    """
    grey = np.repeat((thumbnail @ np.array([0.299, 0.587, 0.114]))[..., None], 3, axis=-1)
    seen = np.isfinite(probability)
    colour = mpl.colormaps[COLOUR_MAP](np.where(seen, probability, 0))[..., :3] * 255
    opacity = np.where(seen, _OPACITY, 0.0)[..., None]
    return np.asarray(np.rint((1 - opacity) * grey + opacity * colour), np.uint8)


def _view(probability: NDArray[np.float32], tumour: NDArray[np.bool_] | None) -> tuple[slice, slice]:
    """Rows and columns around all that was analysed or annotated, with a margin."""
    shown = np.isfinite(probability) if tumour is None else np.isfinite(probability) | tumour
    if not shown.any():
        return slice(0, shown.shape[0]), slice(0, shown.shape[1])
    margin_px = round(_MARGIN * max(shown.shape))
    rows, columns = np.nonzero(shown)
    return _span(rows, shown.shape[0], margin_px), _span(columns, shown.shape[1], margin_px)


def _span(used: NDArray[np.int64], size_px: int, margin_px: int) -> slice:
    return slice(max(int(used.min()) - margin_px, 0), min(int(used.max()) + 1 + margin_px, size_px))


def _frame(view: tuple[slice, slice]) -> tuple[Figure, Axes, Axes, Axes]:
    """Lay out two panels of the view's shape and a colour bar; sizes in inches, so that text keeps its size."""
    rows, columns = (part.stop - part.start for part in view)
    room_in = (_WIDTH_IN - 2 * _SIDE_IN - _GAP_IN - _BAR_IN) / 2
    height_in = min(room_in * rows / columns, _MAX_PANEL_IN)
    width_in = height_in * columns / rows
    total_in = height_in + _TOP_IN + _BOTTOM_IN
    figure = Figure(figsize=(_WIDTH_IN, total_in), facecolor="white")
    FigureCanvasAgg(figure)
    first_in = _SIDE_IN + room_in - width_in
    panels = []
    for left_in in (first_in, first_in + width_in + _GAP_IN):
        box = (left_in / _WIDTH_IN, _BOTTOM_IN / total_in, width_in / _WIDTH_IN, height_in / total_in)
        axes = figure.add_axes(box)
        axes.set(xticks=[], yticks=[])
        panels.append(axes)
    bar_in = first_in + 2 * width_in + _GAP_IN + 0.15
    bar = figure.add_axes((bar_in / _WIDTH_IN, _BOTTOM_IN / total_in, 0.18 / _WIDTH_IN, height_in / total_in))
    return figure, panels[0], panels[1], bar


def _annotation_title(picture: HeatmapPicture) -> str:
    if picture.tumour is None:
        return "slide (no annotation)"
    return "slide and annotated tumour" if picture.tumour.any() else "slide (annotation without tumour)"


def _outline(axes: Axes, tumour: NDArray[np.bool_]) -> None:
    # A border of background closes the outlines of regions that reach the edge of the view.
    padded = np.pad(tumour, 1).astype(np.float32)
    x, y = np.arange(-1, tumour.shape[1] + 1), np.arange(-1, tumour.shape[0] + 1)
    axes.contour(x, y, padded, levels=[0.5], colors=[_OUTLINE], linewidths=1.4)


def _scale_bar(axes: Axes, picture: HeatmapPicture) -> None:
    """Draw a bar of a round length below the panel, and what the outline means beside it."""
    left, right = axes.get_xlim()
    mm_per_px = picture.attributes.level0_mpp * picture.downsample_x / 1000
    length_mm = _round_length((right - left) * mm_per_px / 4)
    share = length_mm / mm_per_px / (right - left)
    below: dict[str, Any] = {"transform": axes.transAxes, "clip_on": False}
    height_in = axes.get_window_extent().height / axes.figure.dpi
    y = -0.16 / height_in
    axes.add_line(Line2D([0, share], [y, y], color="black", linewidth=3, solid_capstyle="butt", **below))
    axes.text(share + 0.02, y, f"{length_mm:g} mm", fontsize=10, va="center", **below)
    if picture.tumour is not None and picture.tumour.any():
        axes.add_line(Line2D([0.62, 0.68], [y, y], color=_OUTLINE, linewidth=1.5, **below))
        axes.text(0.7, y, "annotated tumour", fontsize=10, va="center", **below)


def _round_length(length: float) -> float:
    """Round down to 1, 2 or 5 times a power of ten."""
    power = 10.0 ** np.floor(np.log10(length))
    return float(power * max(step for step in (1, 2, 5) if step * power <= length * (1 + 1e-9)))


def _headline(figure: Figure, picture: HeatmapPicture) -> None:
    analysed = int(np.isfinite(picture.grid.values).sum())
    height_in = figure.get_figheight()
    x = _SIDE_IN / _WIDTH_IN
    y = 1 - 0.25 / height_in
    name = picture.attributes.slide
    # 36 characters of this size fit beside the figures on the right.
    figure.text(x, y, name, fontsize=min(13.0, 13 * 36 / len(name)), fontweight="bold", va="center")
    figure.text(
        1 - x,
        y,
        f"slide score {picture.slide_score:.3f}   truth: {_TRUTHS[picture.attributes.truth]}   {analysed:,} patches",
        fontsize=11,
        va="center",
        ha="right",
    )
