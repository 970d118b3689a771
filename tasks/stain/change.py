"""A change of colours that is affine in logarithms: what Reinhard's and Macenko's normalisation both are."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float64]


@dataclass(frozen=True)
class ColourChange:
    """``x' = 256 exp(ln((x + 1) / 256 · cones) · matrix + offset) · cones⁻¹ - 1`` of each pixel, a row (R, G, B).

    Attributes
    ----------
    cones
        (3, 3) what red, green and blue add to each of the three receptors.
    matrix, offset
        (3, 3) and (3,) what is done to the logarithms of the receptors' light.
    """

    cones: Matrix
    matrix: Matrix
    offset: Matrix

    def apply(self, pixels: NDArray[np.uint8]) -> None:
        """Change patches where they are.

        Parameters
        ----------
        pixels
            uint8 (H, W, 3), RGB.
        """
        light = cv2.transform(_LIGHT[pixels], self.cones.T)
        logarithm = cv2.transform(cv2.log(light), np.column_stack([self.matrix.T, self.offset]))
        changed = cv2.transform(cv2.exp(logarithm), np.linalg.inv(self.cones).T * 256.0)
        pixels[:] = np.rint(np.clip(changed - 1.0, 0.0, 255.0))


def change_colours(patches: Iterable[NDArray[np.uint8]], change: ColourChange | None) -> None:
    """Change each patch, uint8 (H, W, 3), RGB, where it is; None leaves them."""
    if change is not None:
        for patch in patches:
            change.apply(patch)


_LIGHT = ((np.arange(256) + 1.0) / 256.0).astype(np.float32)
