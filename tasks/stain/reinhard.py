"""Colours of a slide after Reinhard et al. 2001: mean and deviation of its tissue in the space lαβ."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from tasks.artifacts import Record
from tasks.stain.change import ColourChange
from tasks.stain.density import tissue_density

Lab3 = tuple[float, float, float]
_LEAST_DEVIATION = 1e-3

# The paper's matrices, transposed: colours are rows here.
_CONES = np.array([[0.3811, 0.5783, 0.0402], [0.1967, 0.7244, 0.0782], [0.0241, 0.1288, 0.8444]]).T
_OPPONENTS = (np.diag([3**-0.5, 6**-0.5, 2**-0.5]) @ np.array([[1, 1, 1], [1, 1, -2], [1, -1, 0]])).T


class ReinhardStain(Record):
    """Colours of a slide.

    Attributes
    ----------
    mean, deviation
        Of l, α and β (natural logarithms of light between 0 and 1) over the pixels with tissue.
    """

    method: Literal["reinhard"] = "reinhard"
    mean: Lab3
    deviation: Lab3

    def toward(self, reference: ReinhardStain) -> ColourChange:
        """Give the change that makes mean and deviation of this slide those of `reference`."""
        factor = np.array(reference.deviation) / self.deviation
        back = np.linalg.inv(_OPPONENTS)
        offset = np.array(reference.mean) - np.array(self.mean) * factor
        return ColourChange(_CONES, _OPPONENTS * factor @ back, offset @ back)


def fit_reinhard(pixels: NDArray[np.uint8]) -> ReinhardStain | None:
    """Measure the colours of some patches.

    Parameters
    ----------
    pixels
        uint8 (…, 3), RGB.

    Returns
    -------
    ReinhardStain | None
        None when there is too little tissue, or tissue of one colour.
    """
    density = tissue_density(pixels, all_channels=False)
    if density is None:
        return None
    seen = np.log(np.exp(-density) @ _CONES) @ _OPPONENTS
    deviation = seen.std(axis=0)
    if deviation.min() < _LEAST_DEVIATION:
        return None
    # Six decimals, so that all ranks have the same numbers, whatever their processors.
    return ReinhardStain(mean=_rounded(seen.mean(axis=0)), deviation=_rounded(deviation))


def _rounded(values: NDArray[np.float64]) -> Lab3:
    first, second, third = np.round(values, 6).tolist()
    return first, second, third
