"""Irregular smooth outlines of a wanted size."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

Points = npt.NDArray[np.float64]

_WAVES = np.arange(2, 9)


def irregular_outline(rng: np.random.Generator, major_axis: float, *, points: int, roughness: float = 0.5) -> Points:
    """Draw a closed outline around the origin that does not cross itself.

    Parameters
    ----------
    rng
        Source of chance.
    major_axis
        Largest distance between two of its points, met exactly.
    points
        How many points.
    roughness
        0 gives an ellipse-like outline, 1 a strongly lobed one.

    Returns
    -------
    numpy.ndarray
        float64, shape (points, 2), in the unit of `major_axis`.
    """
    angle = np.linspace(0, 2 * np.pi, points, endpoint=False)
    amplitude = roughness * rng.uniform(0.3, 1.0, _WAVES.size) / _WAVES**1.2
    phase = rng.uniform(0, 2 * np.pi, _WAVES.size)
    # The radius is an exponential and so never negative: seen from the origin no direction is met twice.
    radius = np.exp((amplitude * np.cos(np.outer(angle, _WAVES) + phase)).sum(axis=1))
    outline = radius[:, None] * np.column_stack([np.cos(angle), rng.uniform(0.65, 1.0) * np.sin(angle)])
    turn = rng.uniform(0, 2 * np.pi)
    rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    turned: Points = outline @ rotation.T * (major_axis / longest_chord(outline))
    return turned


def longest_chord(points: Points) -> float:
    """Largest distance between two points of an outline."""
    hull = cv2.convexHull(points.astype(np.float32))[:, 0].astype(np.float64)
    difference = hull[:, None] - hull[None]
    return float(np.sqrt((difference**2).sum(axis=2).max()))


def area(points: Points) -> float:
    """Area inside an outline that does not cross itself."""
    x, y = points[:, 0], points[:, 1]
    return abs(float(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1)))) / 2
