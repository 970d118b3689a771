"""Metastases: outlines of a stage's size, placed in the tissue."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from tasks.slides.camelyon import Stage
from tasks.slides.synthetic.config import MACRO_UM, MICRO_UM
from tasks.slides.synthetic.outlines import Points, area, irregular_outline, longest_chord

_POINT_EVERY_UM = 8.0
_HOLE_CHANCE = 0.75
_ORDER: tuple[Stage, ...] = ("negative", "itc", "micro", "macro")


@dataclass(frozen=True, eq=False)
class Lesion:
    """One metastasis.

    Attributes
    ----------
    outline_level0_px
        float64, shape (n, 2).
    holes_level0_px
        Outlines of the normal tissue inside.
    """

    outline_level0_px: Points
    holes_level0_px: tuple[Points, ...] = ()

    def major_axis_um(self, mpp: float) -> float:
        """Largest distance between two points of the outline."""
        return longest_chord(self.outline_level0_px) * mpp

    def area_um2(self, mpp: float) -> float:
        """Area without the holes."""
        return (area(self.outline_level0_px) - sum(map(area, self.holes_level0_px))) * mpp**2


def stage_of(lesions: list[Lesion], mpp: float, size_scale: float) -> Stage:
    """Stage of a slide by its largest lesion: above 2 mm macro, above 0.2 mm micro, both times `size_scale`."""
    stages = [_stage_of_size(lesion.major_axis_um(mpp), size_scale) for lesion in lesions]
    return max(stages, key=_ORDER.index, default="negative")


def _stage_of_size(major_axis_um: float, size_scale: float) -> Stage:
    if major_axis_um > MACRO_UM * size_scale:
        return "macro"
    return "micro" if major_axis_um > MICRO_UM * size_scale else "itc"


def place_lesions(
    rng: np.random.Generator, stage: Stage, tissue: npt.NDArray[np.bool_], cell_px: int, mpp: float, size_scale: float
) -> list[Lesion]:
    """Draw the lesions of a slide: one that gives it its stage, and smaller ones.

    Parameters
    ----------
    rng
        Source of chance.
    stage
        Stage that the slide is to have.
    tissue
        bool, where there is tissue, on a grid of `cell_px` level-0 pixels.
    cell_px, mpp
        Grid step in level-0 pixels, and µm per level-0 pixel.
    size_scale
        See `SynthConfig.size_scale`.
    """
    room = tissue.astype(np.uint8)
    room[[0, -1]], room[:, [0, -1]] = 0, 0
    lesions: list[Lesion] = []
    for size_um in _sizes_um(rng, stage, size_scale):
        distance = cv2.distanceTransform(room, cv2.DIST_L2, 5)
        radius_cells = size_um / mpp / cell_px / 2
        spots = np.argwhere(distance >= min(radius_cells * 1.05 + 1, float(distance.max()) * 0.97))
        if distance.max() < radius_cells * 0.7 or not len(spots):
            continue
        row, column = spots[rng.integers(len(spots))]
        lesion = _lesion(rng, np.array([column + 0.5, row + 0.5]) * cell_px, size_um, mpp, size_scale)
        lesions.append(lesion)
        cv2.circle(room, (int(column), int(row)), int(radius_cells * 1.2) + 2, 0, -1)
    return lesions


def _sizes_um(rng: np.random.Generator, stage: Stage, scale: float) -> list[float]:
    """Major axes, largest first."""
    macro = rng.uniform(1.15, 1.5, 1) * MACRO_UM * scale
    micro = rng.uniform(0.2, 0.6, 2) * MACRO_UM * scale
    itc = rng.uniform(0.6, 0.95, 3) * MICRO_UM * scale
    more_micro, more_itc = int(rng.integers(0, 2)), int(rng.integers(1, 4))
    chosen = {
        "negative": [],
        "itc": [itc[:more_itc]],
        "micro": [micro[: 1 + more_micro], itc[: more_itc - 1]],
        "macro": [macro, micro[:more_micro]],
    }[stage]
    return sorted((float(size) for sizes in chosen for size in sizes), reverse=True)


def _lesion(rng: np.random.Generator, centre: Points, size_um: float, mpp: float, size_scale: float) -> Lesion:
    size_px = size_um / mpp
    points = int(np.clip(np.pi * size_um / _POINT_EVERY_UM, 24, 400))
    outline = irregular_outline(rng, size_px, points=points, roughness=0.55)
    if _stage_of_size(size_um, size_scale) != "macro" or rng.uniform() > _HOLE_CHANCE:
        return Lesion(outline + centre)
    reach = float(np.hypot(*outline.T).min())
    hole = irregular_outline(rng, reach * rng.uniform(0.6, 0.9), points=max(24, points // 4), roughness=0.35)
    return Lesion(outline + centre, (hole + centre,))
