"""Which level patches are cut from, and how large, so that they have the wanted µm per pixel."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from tasks.config import PreprocessConfig
from tasks.errors import InputError
from tasks.slides.reader import SlideReader
from tasks.slides.tile_grid import TileGrid

_SAME = 1.02


@dataclass(frozen=True, slots=True)
class Scale:
    """How patches are cut from one slide.

    Attributes
    ----------
    level, level_downsample
        Pyramid level, and level-0 pixels per pixel of it.
    mpp
        µm per pixel of the finished patches.
    cut_px
        Side of a patch in pixels of the level; more than ``patch_px`` when it is scaled down.
    per_patch_px
        Pixels of the level per pixel of the finished patch.
    """

    level: int
    level_downsample: float
    mpp: float
    cut_px: int
    per_patch_px: float

    @property
    def cut_level0_px(self) -> float:
        """Side of a patch in level-0 pixels."""
        return self.cut_px * self.level_downsample

    def stride_level0_px(self, stride_px: int) -> float:
        """Give a stride, stated in pixels of the finished patches, in level-0 pixels: whole pixels of the level."""
        return max(1, round(stride_px * self.per_patch_px)) * self.level_downsample


def scale_of(reader: SlideReader, config: PreprocessConfig) -> Scale:
    """Choose level and size of the patches of a slide.

    With ``config.mpp`` it is the coarsest level that is at least as fine, and patches are scaled down to it unless the
    level has it within 2 %; otherwise ``config.level`` as it is.

    Raises
    ------
    InputError
        The slide has no such level, or none as fine as ``config.mpp``.
    """
    if config.mpp is None:
        if config.level >= reader.level_count:
            raise InputError(
                f"has no level {config.level} (levels 0 to {reader.level_count - 1})",
                subject=reader.path,
                remedy="set preprocess.level to a level that all slides have, or state preprocess.mpp",
            )
        downsample = reader.level_downsamples[config.level]
        return Scale(config.level, downsample, reader.mpp * downsample, config.patch_px, 1.0)
    if reader.mpp > config.mpp * _SAME:
        raise InputError(
            f"has {reader.mpp:.4g} µm per pixel at best, {config.mpp:.4g} are wanted",
            subject=reader.path,
            remedy=f"set preprocess.mpp to {reader.mpp:.4g} or more, or leave the slide out",
        )
    level = reader.level_for_mpp(config.mpp)
    downsample = reader.level_downsamples[level]
    ratio = config.mpp / (reader.mpp * downsample)
    if ratio <= _SAME:
        return Scale(level, downsample, reader.mpp * downsample, config.patch_px, 1.0)
    return Scale(level, downsample, config.mpp, round(config.patch_px * ratio), ratio)


def corners_px(
    x_level0_px: NDArray[np.int64],
    y_level0_px: NDArray[np.int64],
    level_downsample: float,
    side_px: int,
    grid: TileGrid,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Give corners of patches, stated on level 0, in whole pixels of a level.

    They are rounded to the nearest pixel. Levels are not always exactly as large as their downsample says, so that a
    patch at the edge may move by one pixel to stay inside.
    """
    corners = []
    for level0_px, size_px in ((x_level0_px, grid.width_px), (y_level0_px, grid.height_px)):
        nearest = np.round(level0_px / level_downsample).astype(np.int64)
        over = nearest + side_px - size_px
        corners.append(np.where(over == 1, nearest - 1, nearest))
    return corners[0], corners[1]


def scaled(pixels: NDArray[np.uint8], patch_px: int) -> NDArray[np.uint8]:
    """Scale a square, uint8 (H, H, 3), to `patch_px`, averaging areas; as it is when it has that size."""
    if pixels.shape[0] == patch_px:
        return pixels
    return cv2.resize(pixels, (patch_px, patch_px), interpolation=cv2.INTER_AREA).astype(np.uint8, copy=False)
