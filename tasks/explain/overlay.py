"""A map of evidence laid over its patch."""

from __future__ import annotations

import matplotlib as mpl
import numpy as np
from numpy.typing import NDArray

COLOUR_MAP = "viridis"
_STRONGEST = 0.65


def overlay(patch: NDArray[np.uint8], heat: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Colour a patch by `heat`; where there is none the tissue stays as it is.

    Parameters
    ----------
    patch
        uint8 (H, W, 3), RGB.
    heat
        float32 (H, W) in [0, 1].

    Returns
    -------
    NDArray[np.uint8]
        (H, W, 3), RGB.
    """
    colour = mpl.colormaps[COLOUR_MAP](heat)[..., :3] * 255
    opacity = (_STRONGEST * np.clip(heat, 0, 1))[..., None]
    blended = (1 - opacity) * patch + opacity * colour
    return np.asarray(np.rint(blended), np.uint8)
