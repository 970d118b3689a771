"""The procedural slide: any rectangle of it can be drawn alone and fits its neighbours."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from tasks.slides.synthetic.architecture import Architecture, build_architecture
from tasks.slides.synthetic.cells import Cells, place_cells
from tasks.slides.synthetic.config import SynthConfig
from tasks.slides.synthetic.lesions import Lesion, place_lesions
from tasks.slides.synthetic.noise import periodic_texture
from tasks.slides.synthetic.plan import SlidePlan
from tasks.slides.synthetic.stain import CENTRES, Stain
from tasks.slides.synthetic.tissue_shape import tissue_height

Plane = npt.NDArray[np.uint8]

_CELL_UM = 4.0
_PERIOD_PX = 1024
_RAG_HEIGHT = 60


@dataclass(frozen=True, eq=False)
class Textures:
    """Fine structures, each stored as a repeating square (see `periodic_texture`)."""

    gaps: Plane
    grain: Plane
    fibres: Plane
    noise: Plane

    @classmethod
    def draw(cls, rng: np.random.Generator, mpp: float, noise: float) -> Textures:
        """Draw the textures of one slide."""
        angle = rng.uniform(0.2, 1.2)
        along, across = 40 / mpp, 2.2 / mpp
        one = periodic_texture(rng, _PERIOD_PX, along, across, angle)
        two = periodic_texture(rng, _PERIOD_PX, along, across, angle + 1.3)
        channels = [np.clip(8 + noise * rng.standard_normal((_PERIOD_PX, _PERIOD_PX)), 0, 16) for _ in range(3)]
        return cls(
            gaps=_contrast(periodic_texture(rng, _PERIOD_PX, 3.6 / mpp, 3.6 / mpp)),
            grain=periodic_texture(rng, _PERIOD_PX, 1.1 / mpp, 1.1 / mpp),
            fibres=np.maximum(one, two),
            noise=np.tile(np.round(np.stack(channels, axis=2)).astype(np.uint8), (2, 2, 1)),
        )


@dataclass(frozen=True, eq=False)
class Histology:
    """A drawn slide before it has pixels.

    Attributes
    ----------
    lesions
        The metastases in it.
    stain
        Stain and scanner of this slide.
    """

    lesions: list[Lesion]
    stain: Stain
    cell_px: int
    architecture: Architecture
    cells: Cells
    textures: Textures

    def render(self, x: int, y: int, width: int, height: int) -> Plane:
        """Draw a rectangle of level 0.

        Returns
        -------
        numpy.ndarray
            uint8, shape (height, width, 3), RGB.
        """
        # A margin of whole cells, so that the blur sees its neighbours and the planes keep their phase.
        step = self.cell_px
        left, top = (x // step - 2) * step, (y // step - 2) * step
        wide, high = (-(-(x + width - left) // step) + 2) * step, (-(-(y + height - top) // step) + 2) * step
        planes = self._planes(left, top, wide, high)
        if planes is None:
            rgb: Plane = np.full((height, width, 3), self.stain.glass, np.uint8)
        else:
            full = cv2.GaussianBlur(self._tissue(planes, left, top, wide, high), (0, 0), self.stain.blur_px)
            rgb = full[y - top : y - top + height, x - left : x - left + width].astype(np.uint8, copy=False)
        noise = _crop(self.textures.noise, x, y, width, height)
        return cv2.subtract(cv2.add(rgb, noise), np.full(3, 8.0)).astype(np.uint8)

    def _planes(self, left: int, top: int, wide: int, high: int) -> list[Plane] | None:
        """Fine versions of the coarse planes; None where there is only glass."""
        step, coarse = self.cell_px, self.architecture.planes
        rows = np.clip(np.arange(top // step - 2, (top + high) // step + 2), 0, coarse.shape[0] - 1)
        columns = np.clip(np.arange(left // step - 2, (left + wide) // step + 2), 0, coarse.shape[1] - 1)
        part = coarse[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        if int(part[..., 0].max()) < 100:
            return None
        part = coarse[np.ix_(rows, columns)]
        size = (part.shape[1] * step, part.shape[0] * step)
        edge = 2 * step
        fine = [
            cv2.resize(np.ascontiguousarray(part[..., index]), size, interpolation=cv2.INTER_CUBIC)
            for index in range(part.shape[2])
        ]
        return [plane[edge : edge + high, edge : edge + wide].astype(np.uint8, copy=False) for plane in fine]

    def _tissue(self, planes: list[Plane], left: int, top: int, wide: int, high: int) -> Plane:
        edge, eosin, fibres, gaps, haze = planes
        texture = self.textures
        fine_fibres = _crop(texture.fibres, left, top, wide, high)
        fine_gaps = _crop(texture.gaps, left, top, wide, high)
        grain = _crop(texture.grain, left, top, wide, high)
        filled = cv2.bitwise_not(cv2.multiply(gaps, fine_gaps, scale=1 / 255))
        filled = cv2.multiply(filled, cv2.LUT(grain, _HALF_GRAIN), scale=1 / 128)
        presence = cv2.LUT(cv2.subtract(edge, cv2.LUT(fine_gaps, _RAG)), _EDGE)
        pink = cv2.add(eosin, cv2.multiply(fibres, fine_fibres, scale=1 / 255))
        pink = cv2.multiply(cv2.multiply(pink, filled, scale=1 / 255), presence, scale=1 / 255)
        between = cv2.multiply(haze, filled, scale=1 / 255)
        blue = cv2.max(self.cells.draw(left, top, wide, high), between)
        blue = cv2.multiply(blue, presence, scale=1 / 255)
        return self.stain.colour(blue.astype(np.uint8, copy=False), pink.astype(np.uint8, copy=False))


_HALF_GRAIN = (83 + np.arange(256) * 0.35).astype(np.uint8)
_RAG = (np.arange(256) * (_RAG_HEIGHT / 255)).astype(np.uint8)
_EDGE = np.clip((np.arange(256) - 128) * 6 + 128, 0, 255).astype(np.uint8)


def draw_histology(rng: np.random.Generator, plan: SlidePlan, config: SynthConfig) -> Histology:
    """Design a procedural slide: shape, lesions, architecture, nuclei, textures, in this order of chance."""
    cell_px = max(1, round(_CELL_UM / config.mpp))
    shape = (-(-config.height_px // cell_px), -(-config.width_px // cell_px))
    stain = CENTRES[plan.centre].varied(rng)
    height = tissue_height(rng, shape, cell_px * config.mpp)
    tissue = height > 0
    lesions = place_lesions(rng, plan.stage, tissue, cell_px, config.mpp, config.size_scale)
    architecture = build_architecture(rng, height, lesions, cell_px, config.mpp)
    cells = place_cells(rng, tissue, architecture, cell_px, config.mpp)
    textures = Textures.draw(rng, config.mpp, stain.noise)
    return Histology(
        lesions=lesions, stain=stain, cell_px=cell_px, architecture=architecture, cells=cells, textures=textures
    )


def _contrast(texture: Plane) -> Plane:
    """Keep only the peaks of a texture, so that gaps are gaps and not a general paleness."""
    peaks: Plane = np.clip((texture.astype(np.int32) - 128) * 4, 0, 255).astype(np.uint8)
    return peaks


def _crop(texture: Plane, left: int, top: int, wide: int, high: int) -> Plane:
    period = texture.shape[0] // 2
    x, y = left % period, top % period
    if wide <= period and high <= period:
        return np.ascontiguousarray(texture[y : y + high, x : x + wide])
    rows, columns = np.arange(y, y + high) % period, np.arange(x, x + wide) % period
    return texture[np.ix_(rows, columns)]
