"""Stain of a slide after Macenko et al. 2009: the directions and amounts of its two dyes."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from tasks.artifacts import Record
from tasks.stain.change import ColourChange
from tasks.stain.density import tissue_density

Rgb3 = tuple[float, float, float]
_PERCENTILE = 1.0
_LEAST_AMOUNT = 0.01
_LEAST_ANGLE = 0.05
"""In radians, between two dyes; haematoxylin and eosin lie some 0.4 apart."""


class MacenkoStain(Record):
    """Haematoxylin and eosin of a slide.

    Attributes
    ----------
    haematoxylin, eosin
        Optical density in R, G, B of each dye, length 1.
    amount
        99th percentile of the amount of each in stained pixels.
    """

    method: Literal["macenko"] = "macenko"
    haematoxylin: Rgb3
    eosin: Rgb3
    amount: tuple[float, float] = Field(description="of haematoxylin and eosin")

    def toward(self, reference: MacenkoStain) -> ColourChange:
        """Give the change that makes the dyes and amounts of this slide those of `reference`.

        What two dyes do not explain is dropped, as in the paper.
        """
        amounts = np.linalg.pinv(_dyes(self)) * (np.array(reference.amount) / self.amount)
        return ColourChange(np.eye(3), amounts @ _dyes(reference), np.zeros(3))


def fit_macenko(pixels: NDArray[np.uint8]) -> MacenkoStain | None:
    """Find the dyes of some patches.

    The stained pixels' densities are seen in the plane of their two main directions; the dyes are the 1st and 99th
    percentile of the angle there, and haematoxylin is that which takes away more red.

    Parameters
    ----------
    pixels
        uint8 (…, 3), RGB.

    Returns
    -------
    MacenkoStain | None
        None when there is too little tissue, or only one dye.
    """
    density = tissue_density(pixels, all_channels=True)
    if density is None:
        return None
    plane = np.linalg.eigh(np.cov(density.T))[1][:, [2, 1]]
    plane *= np.where(plane[0] < 0, -1.0, 1.0)
    seen = density @ plane
    angles = np.percentile(np.arctan2(seen[:, 1], seen[:, 0]), [_PERCENTILE, 100 - _PERCENTILE])
    if angles[1] - angles[0] < _LEAST_ANGLE:
        return None
    dyes = np.column_stack([np.cos(angles), np.sin(angles)]) @ plane.T
    dyes = dyes[np.argsort(-dyes[:, 0])]
    amount = np.percentile(density @ np.linalg.pinv(dyes), 100 - _PERCENTILE, axis=0)
    if amount.min() < _LEAST_AMOUNT:
        return None
    # Six decimals, so that all ranks have the same numbers, whatever their processors.
    haematoxylin, eosin = (_rounded(dye) for dye in dyes)
    return MacenkoStain(
        haematoxylin=haematoxylin, eosin=eosin, amount=(round(float(amount[0]), 6), round(float(amount[1]), 6))
    )


def _dyes(stain: MacenkoStain) -> NDArray[np.float64]:
    return np.array([stain.haematoxylin, stain.eosin])


def _rounded(values: NDArray[np.float64]) -> Rgb3:
    red, green, blue = np.round(values, 6).tolist()
    return red, green, blue
