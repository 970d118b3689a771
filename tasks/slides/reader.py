"""Whole-slide images as white-backed RGB arrays, with every failure named."""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import cv2
import numpy as np
import numpy.typing as npt
import openslide

from tasks.cohort_config import MPP_RANGE
from tasks.errors import InputError

Rgb = npt.NDArray[np.uint8]

_log = logging.getLogger(__name__)

_MOST_MPP_RATIO = 1.05
_LEVEL_TOLERANCE = 1.02
_READ_BUDGET_PX = 1 << 21
# A file may state any tile, and a tile is decoded whole.
_MOST_TILE_PX = 1 << 26


@dataclass(frozen=True)
class Overview:
    """A whole slide at low resolution.

    Attributes
    ----------
    rgb
        uint8, shape (height, width, 3); unscanned area is white.
    downsample
        Level-0 pixels per overview pixel, the same in x and y: overview pixel (i, j) begins at
        (j * downsample, i * downsample) in level-0 pixels.
    um_per_px
        Micrometres per overview pixel.
    """

    rgb: Rgb
    downsample: float
    um_per_px: float


class SlideReader:
    """One open slide. Use it in a ``with`` block; it is not for two threads at a time.

    Attributes
    ----------
    path
        The slide file.
    mpp
        µm per pixel at level 0.
    """

    def __init__(self, path: Path, mpp: float | None) -> None:
        self.path = path
        self._handle = _open(path)
        try:
            self._refuse_giant_tiles()
            self.mpp = _resolution(self._handle.properties, path, mpp)
        except InputError:
            self._handle.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._handle.close()

    @property
    def dimensions_px(self) -> tuple[int, int]:
        """Width and height of level 0 in pixels."""
        return self.level_dimensions_px[0]

    @property
    def level_count(self) -> int:
        """Number of pyramid levels."""
        return int(self._handle.level_count)

    @property
    def level_dimensions_px(self) -> tuple[tuple[int, int], ...]:
        """Width and height of each level in pixels of that level."""
        return tuple((int(width), int(height)) for width, height in self._handle.level_dimensions)

    @property
    def level_downsamples(self) -> tuple[float, ...]:
        """Level-0 pixels per pixel of each level; not always powers of two (32.0026 exists)."""
        return tuple(float(factor) for factor in self._handle.level_downsamples)

    def tile_size_px(self, level: int) -> tuple[int, int] | None:
        """Width and height of the tiles that a level is stored in, or None when the file has none."""
        names = (f"openslide.level[{level}].tile-width", f"openslide.level[{level}].tile-height")
        stated = [self._handle.properties.get(name, "") for name in names]
        return (int(stated[0]), int(stated[1])) if all(text.isdecimal() for text in stated) else None

    def level_for_mpp(self, mpp: float) -> int:
        """Coarsest level that is at least as fine as `mpp` µm per pixel (2 % tolerance); 0 if none is."""
        fine_enough = [
            level for level, factor in enumerate(self.level_downsamples) if self.mpp * factor <= mpp * _LEVEL_TOLERANCE
        ]
        return max(fine_enough, key=lambda level: self.level_downsamples[level], default=0)

    def read_region(self, x_level0_px: int, y_level0_px: int, level: int, width_px: int, height_px: int) -> Rgb:
        """Read a rectangle.

        Parameters
        ----------
        x_level0_px, y_level0_px
            Upper left corner in level-0 pixels, whatever the level.
        level
            Pyramid level that the pixels come from.
        width_px, height_px
            Size in pixels of that level.

        Returns
        -------
        numpy.ndarray
            uint8, shape (height_px, width_px, 3), RGB on white: what was not scanned, and what lies
            outside the slide, is white.

        Raises
        ------
        InputError
            The level does not exist, or the slide's data there cannot be decoded. The reader stays usable.
        """
        if not 0 <= level < self.level_count:
            raise InputError(
                f"has no level {level} (levels 0 to {self.level_count - 1})",
                subject=self.path,
                remedy="choose a level that the slide has",
            )
        try:
            image = self._handle.read_region((x_level0_px, y_level0_px), level, (width_px, height_px))
        except openslide.OpenSlideError as error:
            self._reopen()
            raise InputError(
                f"tile cannot be decoded at x={x_level0_px}, y={y_level0_px}, level {level} ({error})",
                subject=self.path,
                remedy="copy the slide again from its source; if the source has the same fault, exclude the slide",
            ) from error
        return _on_white(np.asarray(image))

    def read_overview(self, um_per_px: float, *, most_px: int = 1 << 26) -> Overview:
        """Read the whole slide at about `um_per_px`, never coarser than that unless `most_px` asks for it.

        The nearest finer level is averaged down by a whole factor, band by band, so that memory stays
        bounded also for a slide with one huge level.

        Parameters
        ----------
        um_per_px
            Wanted resolution.
        most_px
            Most pixels that the overview may have.
        """
        level = self.level_for_mpp(um_per_px)
        width, height = self.level_dimensions_px[level]
        downsample = self.level_downsamples[level]
        factor = max(1, math.floor(um_per_px * _LEVEL_TOLERANCE / (self.mpp * downsample)))
        factor = max(factor, math.ceil(math.sqrt(width * height / most_px)))
        rgb = self._read_level(level, factor)
        return Overview(rgb=rgb, downsample=downsample * factor, um_per_px=self.mpp * downsample * factor)

    def _read_level(self, level: int, factor: int) -> Rgb:
        """Read a level averaged over `factor` x `factor` pixels; edges are averaged with white."""
        width, height = self.level_dimensions_px[level]
        columns, rows = math.ceil(width / factor), math.ceil(height / factor)
        downsample = self.level_downsamples[level]
        out = np.empty((rows, columns, 3), np.uint8)
        band_columns = min(columns, max(1, math.isqrt(_READ_BUDGET_PX) // factor * 4))
        band_rows = min(rows, max(1, _READ_BUDGET_PX // (band_columns * factor * factor)))
        for row in range(0, rows, band_rows):
            for column in range(0, columns, band_columns):
                wide, high = min(band_columns, columns - column), min(band_rows, rows - row)
                x, y = round(column * factor * downsample), round(row * factor * downsample)
                block = self.read_region(x, y, level, wide * factor, high * factor)
                out[row : row + high, column : column + wide] = (
                    block if factor == 1 else cv2.resize(block, (wide, high), interpolation=cv2.INTER_AREA)
                )
        return out

    def _refuse_giant_tiles(self) -> None:
        for level in range(self.level_count):
            width_px, height_px = self.tile_size_px(level) or (0, 0)
            if width_px * height_px > _MOST_TILE_PX:
                raise InputError(
                    f"states tiles of {width_px} x {height_px} px at level {level}, too large to be decoded",
                    subject=self.path,
                    remedy="convert it to a TIFF with tiles of 256 or 512 px, or leave it out of the cohort",
                )

    def _reopen(self) -> None:
        # OpenSlide remembers the first error of a handle and raises it for every later read.
        self._handle.close()
        self._handle = _open(self.path)


def open_slide(path: Path, mpp: float | None = None) -> SlideReader:
    """Open a slide.

    Parameters
    ----------
    path
        Any file that OpenSlide reads.
    mpp
        µm per pixel at level 0, used where the slide states none or an absurd one.

    Raises
    ------
    InputError
        The file does not open as a slide, or its resolution is unknown and `mpp` is not given.
    """
    return SlideReader(Path(path), mpp)


def _open(path: Path) -> openslide.OpenSlide:
    if not path.is_file():
        raise InputError("is no file", subject=path, remedy="check the path")
    try:
        return openslide.OpenSlide(path)
    except openslide.OpenSlideUnsupportedFormatError as error:
        raise InputError(
            "is in no slide format that OpenSlide knows",
            subject=path,
            remedy="convert it to a tiled pyramidal TIFF, or leave it out of the cohort",
        ) from error
    except (openslide.OpenSlideError, OSError) as error:
        raise InputError(
            f"does not open as a slide ({error})",
            subject=path,
            remedy="check that the file is complete and readable; copy it again from its source",
        ) from error


def _resolution(properties: openslide._PropertyMap, path: Path, given: float | None) -> float:
    """µm per pixel at level 0, or an `InputError` that says what the slide states."""
    stated = [properties.get(openslide.PROPERTY_NAME_MPP_X), properties.get(openslide.PROPERTY_NAME_MPP_Y)]
    problem = _resolution_problem(stated)
    if problem is None:
        x, y = (float(value) for value in stated if value is not None)
        return (x + y) / 2
    if given is None:
        raise InputError(
            problem, subject=path, remedy="state the µm per pixel of the highest level with --mpp (often 0.25 at 40x)"
        )
    _log.info("%s: %s; %g µm per pixel is used as stated by the user", path, problem, given)
    return given


def _resolution_problem(stated: list[str | None]) -> str | None:
    if None in stated:
        return "does not state its resolution (µm per pixel)"
    try:
        x, y = (float(value) for value in stated if value is not None)
    except ValueError:
        return f"states a resolution that is no number ({stated[0]!r}, {stated[1]!r})"
    low, high = MPP_RANGE
    if not (low <= x <= high and low <= y <= high):
        return f"states {x:g} x {y:g} µm per pixel, outside {low:g} to {high:g}"
    if max(x, y) > min(x, y) * _MOST_MPP_RATIO:
        return f"has pixels that are not square ({x:g} x {y:g} µm)"
    return None


def _on_white(rgba: npt.NDArray[np.uint8]) -> Rgb:
    rgb = np.ascontiguousarray(rgba[..., :3])
    alpha = rgba[..., 3]
    if not alpha.size or alpha.min() == 255:
        return rgb
    # Nearly all pixels are scanned or not; the few in between are mixed, so that no wide numbers are needed for all.
    rgb[alpha == 0] = 255
    between = (alpha > 0) & (alpha < 255)
    opacity = alpha[between, None].astype(np.uint16)
    rgb[between] = (rgb[between] * opacity + 255 * (255 - opacity) + 127) // 255
    return rgb
