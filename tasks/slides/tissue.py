"""Where the tissue is: Otsu's threshold on gray or saturation, without borders and ink (paper section 3.5)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from tasks.config import TissueConfig

_HIGHEST_OTSU = 229
_BLACK_GRAY = 25
_INK_MARGIN = 0.9
_INK_GRAY = 110
_INK_CHROMA = 24
_TISSUE_CHROMA = 25
_LEAST_CONTRAST = 15.0
_OPENING_PX = 5
_BOXES_AT_ONCE = 1 << 16
_MEDIAN_PX = 5
_TISSUE_SATURATION = 25
_BAND_PX = 1 << 20

Array = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int32]


@dataclass(frozen=True, eq=False)
class TissueMask:
    """Tissue of a slide at low resolution.

    Attributes
    ----------
    mask
        uint8, shape (height, width), 1 tissue, 0 background.
    threshold
        Gray value at and below which a pixel is tissue; with the method ``hsv`` the saturation (of 255) above which
        it is.
    um_per_px
        Resolution of the mask.
    """

    mask: Array
    threshold: int
    um_per_px: float

    @property
    def fraction(self) -> float:
        """Share of the mask that is tissue."""
        return float(self.mask.mean()) if self.mask.size else 0.0


def tissue_mask(rgb_low: Array, config: TissueConfig, um_per_px: float) -> TissueMask:
    """Find the tissue in a low-resolution image of a slide.

    Black scanner borders and pen marks are set aside. With the method ``otsu``, Otsu's threshold is taken on the
    gray values other than 0 and 255, and small gaps are closed by opening the background with a 5 x 5 square; where
    it finds no useful threshold (above 229, or only one kind of pixel), ``config.fallback_gray`` is used. With
    ``hsv``, it is taken on the saturation after a 5 x 5 median. Either way a slide of glass alone gives an empty
    mask and a slide of tissue alone a full one. Holes smaller than ``config.fill_holes_um2`` are filled, but not
    with ink; regions narrower than ``config.min_region_um`` are dropped.

    Parameters
    ----------
    rgb_low
        uint8, shape (height, width, 3), RGB; unscanned area white or black.
    config
        Method, fallback threshold, largest hole and smallest region.
    um_per_px
        Resolution of `rgb_low`.
    """
    gray: Array = cv2.cvtColor(rgb_low, cv2.COLOR_RGB2GRAY).astype(np.uint8, copy=False)
    unusable = (gray <= _BLACK_GRAY) | _ink(rgb_low, gray)
    if config.method == "hsv":
        saturation, threshold = _saturation(rgb_low, gray, ~unusable)
        tissue = (saturation > threshold) & ~unusable
    else:
        threshold = _threshold(rgb_low, gray, ~unusable, config.fallback_gray)
        background = ((gray > threshold) | unusable).astype(np.uint8)
        square = np.ones((_OPENING_PX, _OPENING_PX), np.uint8)
        opened = cv2.morphologyEx(background, cv2.MORPH_OPEN, square, borderType=cv2.BORDER_REPLICATE)
        tissue = (opened == 0) & ~unusable
    filled = _without_small_holes(tissue, config.fill_holes_um2 / um_per_px**2) & ~unusable
    mask = _wide_regions(filled.view(np.uint8), config.min_region_um / um_per_px)
    return TissueMask(mask=mask, threshold=threshold, um_per_px=um_per_px)


def box_fraction(
    mask: Array,
    x: Floats,
    y: Floats,
    width: Floats | float,
    height: Floats | float,
) -> Floats:
    """Exact share of boxes that a 0/1 mask covers.

    The integral image is interpolated bilinearly, which for boxes with fractional borders is the exact
    integral over the mask taken as squares of constant value. What lies outside the mask counts as 0.

    Parameters
    ----------
    mask
        uint8 or bool, shape (rows, columns), values 0 and 1.
    x, y
        Upper left corners in mask pixels.
    width, height
        Sizes in mask pixels, above 0.

    Returns
    -------
    numpy.ndarray
        float64, the broadcast shape of the boxes, 0 to 1.
    """
    integral: Counts = cv2.integral(mask.astype(np.uint8, copy=False), sdepth=cv2.CV_32S).astype(np.int32, copy=False)
    boxes = [np.ravel(side) for side in np.broadcast_arrays(x, y, width, height)]
    fraction = np.empty(len(boxes[0]))
    for start in range(0, len(fraction), _BOXES_AT_ONCE):
        left, top, wide, high = (side[start : start + _BOXES_AT_ONCE].astype(np.float64) for side in boxes)
        right, bottom = left + wide, top + high
        covered: Floats = _at(integral, right, bottom) - _at(integral, left, bottom)
        covered += _at(integral, left, top) - _at(integral, right, top)
        fraction[start : start + _BOXES_AT_ONCE] = np.clip(covered / (wide * high), 0.0, 1.0)
    return fraction.reshape(np.broadcast_shapes(*map(np.shape, (x, y, width, height))))


def _at(integral: Counts, x: Floats, y: Floats) -> Floats:
    rows, columns = integral.shape
    x, y = np.clip(x, 0, columns - 1), np.clip(y, 0, rows - 1)
    column, row = np.floor(x).astype(np.int64), np.floor(y).astype(np.int64)
    next_column, next_row = np.minimum(column + 1, columns - 1), np.minimum(row + 1, rows - 1)
    right, down = x - column, y - row
    upper = integral[row, column] * (1 - right) + integral[row, next_column] * right
    lower = integral[next_row, column] * (1 - right) + integral[next_row, next_column] * right
    result: Floats = upper * (1 - down) + lower * down
    return result


def _ink(rgb: Array, gray: Array) -> npt.NDArray[np.bool_]:
    """Pixels of pen marks.

    Both dyes of H&E absorb green most, so that stained tissue is never greener than red by much: blue and
    green inks are. Black ink is dark without colour, which stained tissue is not.
    """
    spots = np.empty(gray.shape, np.uint8)
    for rows in _bands(gray):
        red, green = rgb[rows, :, 0].astype(np.float32), rgb[rows, :, 1].astype(np.float32)
        chroma = _chroma(rgb[rows])
        coloured = (red < _INK_MARGIN * green) & (chroma > _INK_CHROMA)
        black = (gray[rows] < _INK_GRAY) & (chroma < _INK_CHROMA)
        spots[rows] = coloured | black
    marks = cv2.morphologyEx(spots, cv2.MORPH_OPEN, np.ones((2, 2), np.uint8))
    # The faded edge of a stroke is one or two pixels wide at these resolutions.
    return cv2.dilate(marks, np.ones((3, 3), np.uint8)).astype(bool)


def _chroma(rgb: Array) -> npt.NDArray[np.int16]:
    difference: npt.NDArray[np.int16] = rgb.max(axis=2).astype(np.int16) - rgb.min(axis=2)
    return difference


def _threshold(rgb: Array, gray: Array, usable: npt.NDArray[np.bool_], fallback: int) -> int:
    values = gray[usable & (gray < 255)]
    if not values.size:
        return fallback
    threshold = _otsu(values)
    light = usable & (gray > threshold) & (gray < 255)
    dark = usable & (gray <= threshold)
    if threshold > _HIGHEST_OTSU or not light.any() or not dark.any():
        return fallback
    if float(gray[light].mean()) - float(gray[dark].mean()) < _LEAST_CONTRAST:
        # One kind of pixel, split in the middle of its noise: coloured means tissue, else it is glass.
        return 254 if float(_chroma(rgb)[usable].mean()) > _TISSUE_CHROMA else min(fallback, int(values.min()) - 1)
    glass_in_sight = bool((gray[usable] == 255).any()) or float(np.median(_chroma(rgb)[light])) <= _TISSUE_CHROMA
    return threshold if glass_in_sight else max(threshold, fallback)


def _saturation(rgb: Array, gray: Array, usable: npt.NDArray[np.bool_]) -> tuple[Array, int]:
    """Smoothed saturation, and the value above which a pixel is tissue."""
    saturation: Array = np.empty(gray.shape, np.uint8)
    for rows in _bands(gray):
        saturation[rows] = cv2.cvtColor(rgb[rows], cv2.COLOR_RGB2HSV)[..., 1]
    saturation = cv2.medianBlur(saturation, _MEDIAN_PX).astype(np.uint8, copy=False)
    values = saturation[usable & (gray < 255)]
    if not values.size:
        return saturation, _TISSUE_SATURATION
    threshold = _otsu(values)
    pale, coloured = values[values <= threshold], values[values > threshold]
    # Two kinds of pixel of which one is glass; else all is glass, or all is tissue.
    two_kinds = coloured.size and float(coloured.mean()) - float(pale.mean()) >= _LEAST_CONTRAST
    if two_kinds and float(np.median(pale)) <= _TISSUE_SATURATION < float(coloured.mean()):
        return saturation, threshold
    return saturation, _TISSUE_SATURATION


def _otsu(values: npt.NDArray[np.uint8]) -> int:
    threshold, _ = cv2.threshold(values.reshape(1, -1), 0, 255, cv2.THRESH_BINARY + cv2.THRESH_OTSU)
    return int(threshold)


def _without_small_holes(tissue: npt.NDArray[np.bool_], smallest_px: float) -> npt.NDArray[np.bool_]:
    """Fill the holes of fewer pixels; what touches the border of the image is no hole."""
    if smallest_px <= 1:
        return tissue
    count, labels, stats, _ = cv2.connectedComponentsWithStats((~tissue).view(np.uint8), connectivity=4)
    left, top, width, height, area = stats.T[:5]
    inside = (left > 0) & (top > 0) & (left + width < tissue.shape[1]) & (top + height < tissue.shape[0])
    # Component 0 is the tissue itself.
    hole = inside & (area < smallest_px) & (np.arange(count) > 0)
    filled = tissue.copy()
    for rows in _bands(tissue):
        filled[rows] |= hole[labels[rows]]
    return filled


def _wide_regions(mask: Array, least_width_px: float) -> Array:
    """Keep the connected regions in which a circle of this diameter finds room."""
    count, labels = cv2.connectedComponents(mask, connectivity=8)
    if count <= 1:
        return mask
    # The image's border is no edge of the tissue: a region that leaves the image may be as wide as you like.
    padded = cv2.copyMakeBorder(mask, 1, 1, 1, 1, cv2.BORDER_REPLICATE)
    radius = cv2.distanceTransform(padded, cv2.DIST_L2, 5)[1:-1, 1:-1]
    widest = np.zeros(count, np.float32)
    for rows in _bands(mask):
        np.maximum.at(widest, labels[rows].reshape(-1).astype(np.int64), radius[rows].reshape(-1))
    keep = widest >= least_width_px / 2
    keep[0] = False
    kept = np.empty(mask.shape, np.uint8)
    for rows in _bands(mask):
        kept[rows] = keep[labels[rows]]
    return kept


def _bands(image: npt.NDArray[np.generic]) -> Iterator[slice]:
    """Rows to work on at a time, so that what is computed between does not multiply the memory of the image."""
    height, width = image.shape[:2]
    rows = max(1, _BAND_PX // max(1, width))
    for top in range(0, height, rows):
        yield slice(top, min(height, top + rows))
