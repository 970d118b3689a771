"""Filters on the pixels of a patch: white (glass, fat) and black (outside the scan)."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

BLACK_LEVEL = 10


def white_fraction(pixels: NDArray[np.uint8], white_level: int) -> float:
    """Share of the pixels whose gray value is above `white_level` (paper section 3.5: 200).

    Parameters
    ----------
    pixels
        uint8 (H, W, 3), RGB.
    """
    gray = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
    return float(np.count_nonzero(gray > white_level) / gray.size)


def black_fraction(pixels: NDArray[np.uint8]) -> float:
    """Share of the pixels that are darker than any stain (gray below 10)."""
    gray = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
    return float(np.count_nonzero(gray < BLACK_LEVEL) / gray.size)
