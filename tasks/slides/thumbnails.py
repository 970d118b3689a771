"""Small pictures of slides with what was found on them."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from tasks.slides.reader import Rgb, SlideReader

TISSUE_COLOUR = (20, 120, 40)
TUMOUR_COLOUR = (200, 0, 0)


def thumbnail(slide: SlideReader, max_side_px: int = 1024) -> Rgb:
    """Picture of the whole slide, its longer side at most `max_side_px`.

    Returns
    -------
    numpy.ndarray
        uint8, shape (height, width, 3), RGB.
    """
    width, height = slide.dimensions_px
    shrink = max(1.0, max(width, height) / max_side_px)
    rgb = slide.read_overview(slide.mpp * shrink).rgb
    size = (max(1, round(width / shrink)), max(1, round(height / shrink)))
    if (rgb.shape[1], rgb.shape[0]) == size:
        return rgb
    return cv2.resize(rgb, size, interpolation=cv2.INTER_AREA).astype(np.uint8)


def draw_outline(picture: Rgb, mask: npt.NDArray[np.uint8], colour: tuple[int, int, int], width_px: int = 2) -> Rgb:
    """Draw the border of a mask on a picture of the same slide.

    Parameters
    ----------
    picture
        uint8, shape (height, width, 3), RGB; it is not changed.
    mask
        uint8, any size with the same frame, 0 outside.
    colour
        RGB.
    width_px
        Width of the line in pixels of the picture.
    """
    drawn = picture.copy()
    fitted = cv2.resize(mask, (picture.shape[1], picture.shape[0]), interpolation=cv2.INTER_NEAREST)
    contours, _ = cv2.findContours(fitted, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(drawn, contours, -1, colour, width_px, cv2.LINE_AA)
    return drawn
