"""Filters on the pixels of a patch: white (glass, fat) and black (outside the scan)."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

BLACK_LEVEL = 10


def white_and_black_fraction(pixels: NDArray[np.uint8], white_level: int) -> tuple[float, float]:
    """Shares of the pixels whose gray value is above `white_level` (paper section 3.5: 200), and below any stain's.

    Parameters
    ----------
    pixels
        uint8 (H, W, 3), RGB.
    white_level
        Gray above this counts as white; below 10 counts as black.
    """
    gray = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
    white, black = np.count_nonzero(gray > white_level), np.count_nonzero(gray < BLACK_LEVEL)
    return float(white / gray.size), float(black / gray.size)
