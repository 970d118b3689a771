"""Tissue that is out of focus: how much of its contrast is fine detail, square by square."""

from __future__ import annotations

from collections.abc import Iterator

import cv2
import numpy as np
import numpy.typing as npt

from tasks.errors import InputError
from tasks.slides.reader import Overview, SlideReader

# Nuclei and fibres have their sharp edges at about this resolution; finer, there is scanner noise instead.
_WORK_UM = 1.0
_SQUARE_UM = 128.0
_LEAST_TISSUE = 0.25
# Of a Gaussian blur of 1, 2, 3 µm, about 0.2, 0.045 and 0.02 of the variance is left in the Laplacian (real H&E of two
# scanners and synthetic slides); sharp tissue has more than 0.45.
_DETAIL_AT_1_UM = 0.2
_EXPONENT = 0.465
_LEAST_DETAIL = 1e-6
_SQUARES_AT_ONCE = 16

Array = npt.NDArray[np.uint8]


def leave_out_blurred(slide: SlideReader, overview: Overview, tissue: Array, max_blur_um: float) -> Array:
    """Take the squares of 128 µm out of a tissue mask in which the slide is out of focus.

    The blur is estimated from the share that the Laplacian has in the variance of the gray values, at 1 µm per
    pixel: contrast and colour of the stain do not matter, and tissue without any contrast counts as sharp. At
    the border of the tissue, where there is glass, and in squares with little tissue it is not judged. A square that
    cannot be decoded stays in the mask: its patches are rejected, and counted, when they are cut.

    Parameters
    ----------
    slide
        The open slide.
    overview
        The frame of the mask.
    tissue
        uint8, the shape of the overview, 1 tissue, 0 background.
    max_blur_um
        Standard deviation of the blur, in µm, that is still taken as sharp.

    Returns
    -------
    numpy.ndarray
        uint8, as `tissue`.

    Raises
    ------
    InputError
        The slide is too coarse for its focus to be seen.
    """
    if slide.mpp > _WORK_UM * 1.1:
        raise InputError(
            f"has {slide.mpp:g} µm per pixel, too coarse for its focus to be seen",
            subject=slide.path,
            remedy="leave preprocess.tissue.max_blur_um out for this cohort",
        )
    side = max(1, round(_SQUARE_UM / overview.um_per_px))
    inner = cv2.erode(tissue, np.ones((3, 3), np.uint8), borderType=cv2.BORDER_REPLICATE).astype(np.uint8, copy=False)
    sharp = tissue.copy()
    for row, column, squares in _runs(inner, side):
        band = inner[row : row + side, column : column + squares * side]
        for number, blur_um in enumerate(_blur_um(slide, overview, row, column, band, squares)):
            if blur_um > max_blur_um:
                left = column + number * side
                sharp[row : row + side, left : left + side] = 0
    return sharp


def _runs(inner: Array, side: int) -> Iterator[tuple[int, int, int]]:
    """Yield row, column and number of neighbouring whole squares with enough tissue, in pixels of the mask."""
    rows, columns = inner.shape[0] // side, inner.shape[1] // side
    whole = inner[: rows * side, : columns * side].reshape(rows, side, columns, side)
    enough = whole.mean(axis=(1, 3)) >= _LEAST_TISSUE
    for i in range(rows):
        begin = 0
        for j in range(columns + 1):
            ends = j == columns or not enough[i, j]
            if j > begin and (ends or j - begin == _SQUARES_AT_ONCE):
                yield i * side, begin * side, j - begin
                begin = j
            if ends:
                begin = j + 1


def _blur_um(
    slide: SlideReader, overview: Overview, row: int, column: int, inner: Array, squares: int
) -> npt.NDArray[np.float64]:
    """Blur of neighbouring squares; 0 where they cannot be read."""
    side_um = inner.shape[0] * overview.um_per_px
    level = slide.level_for_mpp(_WORK_UM)
    side_px = side_um / (slide.mpp * slide.level_downsamples[level])
    x, y = round(column * overview.downsample), round(row * overview.downsample)
    try:
        rgb = slide.read_region(x, y, level, round(side_px * squares), round(side_px))
    except InputError:
        if squares == 1:
            return np.zeros(1)
        side = inner.shape[0]
        parts = [
            _blur_um(slide, overview, row, column + k * side, inner[:, k * side : (k + 1) * side], 1)
            for k in range(squares)
        ]
        return np.concatenate(parts)
    work_px = max(1, round(side_um / _WORK_UM))
    gray = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY).astype(np.float32)
    gray = cv2.resize(gray, (work_px * squares, work_px), interpolation=cv2.INTER_AREA).astype(np.float32, copy=False)
    where = cv2.resize(inner, (work_px * squares, work_px), interpolation=cv2.INTER_NEAREST).astype(np.float32)
    detail = _sums(cv2.Laplacian(gray, cv2.CV_32F) ** 2 * where, squares)
    count = _sums(where, squares)
    mean = _sums(gray * where, squares) / count
    variance = _sums(gray * gray * where, squares) / count - mean**2
    share = detail / count / np.maximum(variance, _LEAST_DETAIL)
    blur: npt.NDArray[np.float64] = (_DETAIL_AT_1_UM / np.maximum(share, _LEAST_DETAIL)) ** _EXPONENT
    return np.where(variance > _LEAST_DETAIL, blur, 0.0)


def _sums(values: npt.NDArray[np.generic], squares: int) -> npt.NDArray[np.float64]:
    """Sum over each of the squares that stand side by side."""
    sums: npt.NDArray[np.float64] = values.reshape(values.shape[0], squares, -1).sum(axis=(0, 2), dtype=np.float64)
    return sums
