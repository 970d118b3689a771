"""Stain, light and scanner of a medical centre."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

FULL_DYE = 3.0


@dataclass(frozen=True)
class Stain:
    """How dyes become colours.

    Attributes
    ----------
    haematoxylin, eosin
        Natural optical density of red, green and blue per unit of dye.
    glass
        RGB of empty glass.
    blur_px
        Standard deviation of the optical blur in level-0 pixels.
    noise
        Standard deviation of the sensor's noise in gray values.
    """

    haematoxylin: tuple[float, float, float]
    eosin: tuple[float, float, float]
    glass: tuple[int, int, int]
    blur_px: float
    noise: float

    def varied(self, rng: np.random.Generator) -> Stain:
        """Change it a little, as from one day in the laboratory to another."""
        dark, pink = rng.uniform(0.82, 1.18, 2)
        return Stain(
            haematoxylin=_scaled(self.haematoxylin, dark),
            eosin=_scaled(self.eosin, pink),
            glass=self.glass,
            blur_px=self.blur_px,
            noise=self.noise,
        )

    def colour(self, haematoxylin: npt.NDArray[np.uint8], eosin: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        """Mix two dye images by the law of Beer and Lambert.

        Parameters
        ----------
        haematoxylin, eosin
            uint8, shape (h, w): amount of dye, 255 for `FULL_DYE`.

        Returns
        -------
        numpy.ndarray
            uint8, shape (h, w, 3), RGB.
        """
        amount = np.arange(256) * (FULL_DYE / 255)
        channels = []
        for density_h, density_e, light in zip(self.haematoxylin, self.eosin, self.glass, strict=True):
            passed_h = np.round(255 * np.exp(-amount * density_h)).astype(np.uint8)
            passed_e = np.round(light * np.exp(-amount * density_e)).astype(np.uint8)
            channels.append(cv2.multiply(cv2.LUT(haematoxylin, passed_h), cv2.LUT(eosin, passed_e), scale=1 / 255))
        return cv2.merge(channels).astype(np.uint8)


def _scaled(vector: tuple[float, float, float], factor: float) -> tuple[float, float, float]:
    red, green, blue = vector
    return (red * factor, green * factor, blue * factor)


# Read off real lymph node sections: violet-brown, blue-violet, textbook, pale and dull, blue with orange eosin.
CENTRES = (
    Stain((0.58, 0.74, 0.40), (0.12, 0.52, 0.28), (243, 241, 243), 0.75, 1.6),
    Stain((0.55, 0.82, 0.26), (0.14, 0.60, 0.16), (238, 234, 240), 0.95, 2.2),
    Stain((0.64, 0.72, 0.32), (0.06, 0.56, 0.22), (246, 246, 244), 0.60, 1.2),
    Stain((0.50, 0.58, 0.38), (0.17, 0.50, 0.30), (231, 228, 226), 1.05, 2.0),
    Stain((0.68, 0.70, 0.34), (0.08, 0.50, 0.34), (242, 243, 236), 0.80, 1.6),
)
