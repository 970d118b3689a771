"""Smooth random fields."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

Field = npt.NDArray[np.float32]


def smooth_noise(rng: np.random.Generator, shape: tuple[int, int], scale: float) -> Field:
    """Gaussian noise with structures of about `scale` cells, mean 0 and standard deviation 1 in expectation.

    It is drawn on a grid coarser than the structures and interpolated, so that large scales cost little.

    Returns
    -------
    numpy.ndarray
        float32, `shape`.
    """
    step = max(1.0, scale / 4)
    rows, columns = (int(np.ceil(side / step)) + 8 for side in shape)
    white = rng.standard_normal((rows, columns)).astype(np.float32)
    sigma = scale / step / 2
    smooth = cv2.GaussianBlur(white, (0, 0), sigma)
    smooth *= 2 * np.sqrt(np.pi) * sigma
    full = cv2.resize(smooth, (round(columns * step), round(rows * step)), interpolation=cv2.INTER_CUBIC)
    offset = round(2 * step)
    field: Field = full[offset : offset + shape[0], offset : offset + shape[1]].astype(np.float32)
    return field


def periodic_texture(
    rng: np.random.Generator, period_px: int, along_px: float, across_px: float, angle_rad: float = 0.0
) -> npt.NDArray[np.uint8]:
    """Texture that repeats without a seam, stored twice in each direction so that any crop is a plain slice.

    Parameters
    ----------
    rng
        Source of chance.
    period_px
        Side of the repeated square.
    along_px, across_px
        Size of its structures along and across `angle_rad`; equal sizes give grain, unequal ones fibres.
    angle_rad
        Direction of the fibres.

    Returns
    -------
    numpy.ndarray
        uint8, shape (2 * period_px, 2 * period_px): mean 128, standard deviation 42.
    """
    fy, fx = np.fft.fftfreq(period_px)[:, None], np.fft.rfftfreq(period_px)[None]
    along = fx * np.cos(angle_rad) + fy * np.sin(angle_rad)
    across = -fx * np.sin(angle_rad) + fy * np.cos(angle_rad)
    weight = np.exp(-2 * (np.pi * 0.5) ** 2 * ((along * along_px) ** 2 + (across * across_px) ** 2))
    spectrum = np.fft.rfft2(rng.standard_normal((period_px, period_px))) * weight
    spectrum[0, 0] = 0
    field = np.fft.irfft2(spectrum, (period_px, period_px))
    square = np.clip(128 + 42 * field / field.std(), 0, 255).astype(np.uint8)
    return np.tile(square, (2, 2))
