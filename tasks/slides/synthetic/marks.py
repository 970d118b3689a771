"""What scanners and people leave on slides: pen strokes and black borders."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from tasks.slides.synthetic.plan import SlidePlan

Plane = npt.NDArray[np.uint8]

_INKS = ((28, 48, 150), (20, 110, 70), (32, 30, 36))
_OPACITY = 0.88
_PEN_SHARE = 0.012
_BORDER_SHARE = 0.015
_SUBPIXEL_BITS = 4


@dataclass(frozen=True, eq=False)
class Marks:
    """Marks on one slide.

    Attributes
    ----------
    stroke_level0_px
        float64, shape (n, 2): the line of the pen; no points where there is none.
    ink
        RGB of the pen.
    pen_px
        Width of the line.
    border_px
        Width of the black border at the left and at the bottom.
    bottom_level0_px
        Where the bottom border begins.
    """

    stroke_level0_px: npt.NDArray[np.float64]
    ink: tuple[int, int, int]
    pen_px: int
    border_px: int
    bottom_level0_px: int

    def put_on(self, rgb: Plane, x: int, y: int) -> Plane:
        """Return a rectangle of level 0, whose upper left corner is at (x, y), with the marks on it."""
        height, width = rgb.shape[:2]
        marked = rgb
        if len(self.stroke_level0_px):
            stroke = np.zeros((height, width), np.uint8)
            line = np.round((self.stroke_level0_px - (x, y)) * 2**_SUBPIXEL_BITS).astype(np.int32)
            cv2.polylines(stroke, [line], False, 1, self.pen_px, cv2.LINE_8, _SUBPIXEL_BITS)
            if stroke.any():
                inked = cv2.addWeighted(rgb, 1 - _OPACITY, np.full_like(rgb, self.ink), _OPACITY, 0)
                marked = np.where(stroke[..., None] > 0, inked, rgb).astype(np.uint8)
        left, bottom = max(0, self.border_px - x), max(0, self.bottom_level0_px - y)
        if left or bottom < height:
            marked = marked.copy()
            marked[:, :left] = 0
            marked[bottom:] = 0
        return marked


def draw_marks(rng: np.random.Generator, plan: SlidePlan, width_px: int, height_px: int) -> Marks:
    """Draw the marks that the plan asks for: a wavy pen stroke near the upper edge, a border at left and bottom."""
    side = min(width_px, height_px)
    along = np.linspace(0.12, 0.42, 60)
    wave = 0.05 + 0.02 * np.sin(along * 40 + rng.uniform(0, 6)) * rng.uniform(0.3, 1)
    stroke = np.column_stack([along * width_px, wave * height_px])
    ink = _INKS[int(rng.integers(len(_INKS)))]
    border_px = round(_BORDER_SHARE * side) if plan.black_border else 0
    return Marks(
        stroke_level0_px=stroke if plan.pen_mark else np.empty((0, 2)),
        ink=ink,
        pen_px=max(2, round(_PEN_SHARE * side)),
        border_px=border_px,
        bottom_level0_px=height_px - border_px,
    )
