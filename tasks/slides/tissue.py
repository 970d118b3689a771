"""Where the tissue is: Otsu's threshold on the gray image, without borders and ink (paper section 3.5)."""

from __future__ import annotations

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
        Gray value at and below which a pixel is tissue.
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

    Black scanner borders and pen marks are set aside, Otsu's threshold is taken on the gray values other than 0
    and 255, small gaps are closed by opening the background with a 5 x 5 square, and regions narrower than
    ``config.min_region_um`` are dropped. Where Otsu finds no useful threshold (above 229, or only one kind of
    pixel), ``config.fallback_gray`` is used, so that a slide of glass alone gives an empty mask and a slide
    of tissue alone a full one.

    Parameters
    ----------
    rgb_low
        uint8, shape (height, width, 3), RGB; unscanned area white or black.
    config
        Fallback threshold and smallest region.
    um_per_px
        Resolution of `rgb_low`.
    """
    gray: Array = cv2.cvtColor(rgb_low, cv2.COLOR_RGB2GRAY).astype(np.uint8)
    unusable = (gray <= _BLACK_GRAY) | _ink(rgb_low, gray)
    threshold = _threshold(rgb_low, gray, ~unusable, config.fallback_gray)
    background = ((gray > threshold) | unusable).astype(np.uint8)
    square = np.ones((_OPENING_PX, _OPENING_PX), np.uint8)
    opened = cv2.morphologyEx(background, cv2.MORPH_OPEN, square, borderType=cv2.BORDER_REPLICATE)
    tissue = (opened == 0) & ~unusable
    mask = _wide_regions(tissue.astype(np.uint8), config.min_region_um / um_per_px)
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
    red, green = rgb[..., 0].astype(np.float32), rgb[..., 1].astype(np.float32)
    coloured = (red < _INK_MARGIN * green) & (_chroma(rgb) > _INK_CHROMA)
    black = (gray < _INK_GRAY) & (_chroma(rgb) < _INK_CHROMA)
    spots = (coloured | black).astype(np.uint8)
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


def _otsu(values: npt.NDArray[np.uint8]) -> int:
    threshold, _ = cv2.threshold(values.reshape(1, -1), 0, 255, cv2.THRESH_BINARY + cv2.THRESH_OTSU)
    return int(threshold)


def _wide_regions(mask: Array, least_width_px: float) -> Array:
    """Keep the connected regions in which a circle of this diameter finds room."""
    count, labels = cv2.connectedComponents(mask, connectivity=8)
    if count <= 1:
        return mask
    # The image's border is no edge of the tissue: a region that leaves the image may be as wide as you like.
    padded = cv2.copyMakeBorder(mask, 1, 1, 1, 1, cv2.BORDER_REPLICATE)
    radius = cv2.distanceTransform(padded, cv2.DIST_L2, 5)[1:-1, 1:-1]
    widest = np.zeros(count, np.float32)
    np.maximum.at(widest, labels.ravel().astype(np.int64), radius.ravel())
    keep = widest >= least_width_px / 2
    keep[0] = False
    kept: Array = keep[labels].astype(np.uint8)
    return kept
