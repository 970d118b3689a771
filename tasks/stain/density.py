"""Optical density: how much light tissue takes away."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

LEAST_DENSITY = 0.15
"""Of stained tissue; less is glass (Macenko et al. 2009)."""
LEAST_PIXELS = 1000


def tissue_density(pixels: NDArray[np.uint8], *, all_channels: bool) -> NDArray[np.float64] | None:
    """Give the optical densities ``-ln((x + 1) / 256)`` of the pixels with tissue.

    Parameters
    ----------
    pixels
        uint8 (…, 3), RGB.
    all_channels
        Tissue has `LEAST_DENSITY` in each channel (strongly stained); otherwise in the mean of the channels.

    Returns
    -------
    NDArray[np.float64] | None
        (n, 3); None when there are fewer than `LEAST_PIXELS`.
    """
    density = -np.log((pixels.reshape(-1, 3) + 1.0) / 256.0)
    tissue = (density.min(axis=1) if all_channels else density.mean(axis=1)) > LEAST_DENSITY
    return density[tissue] if np.count_nonzero(tissue) >= LEAST_PIXELS else None
