"""Tissue of two dyes in all mixtures."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

VIOLET_DYES = np.array([[0.65, 0.70, 0.29], [0.21, 0.90, 0.38]])
PINK_DYES = np.array([[0.55, 0.76, 0.34], [0.28, 0.89, 0.36]])


def tissue(dyes: NDArray[np.float64], seed: int, side_px: int = 128) -> NDArray[np.uint8]:
    """Pixels (side_px, side_px, 3) of two dyes, a fifth of them glass; `dyes` are optical densities, (2, 3)."""
    generator = np.random.default_rng(seed)
    unit = dyes / np.linalg.norm(dyes, axis=1, keepdims=True)
    share = generator.random((side_px, side_px, 1))
    amount = np.concatenate([share, 1 - share], axis=2) * generator.uniform(0.5, 1.6, (side_px, side_px, 1))
    amount[generator.random((side_px, side_px)) < 0.2] = 0.02
    pixels: NDArray[np.uint8] = np.clip(np.rint(256 * np.exp(-amount @ unit) - 1), 0, 255).astype(np.uint8)
    return pixels
