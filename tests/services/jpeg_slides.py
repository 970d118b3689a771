"""Small tiled JPEG slides of many kinds."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import tifffile
from numpy.typing import NDArray

TILE_PX = 64


def picture(width_px: int, height_px: int) -> NDArray[np.uint8]:
    """Smooth colours with some noise, uint8 (height_px, width_px, 3)."""
    y, x = np.mgrid[:height_px, :width_px]
    waves = [np.sin(x / 17 + 2 * band) * np.cos(y / 23 - band) * 60 + 150 for band in range(3)]
    noise = np.random.default_rng(5).normal(0, 6, (height_px, width_px, 3))
    return np.clip(np.stack(waves, axis=2) + noise, 0, 255).astype(np.uint8)


def write_jpeg_slide(
    path: Path,
    pixels: NDArray[np.uint8],
    *,
    photometric: str = "ycbcr",
    colours: str = "YCBCR",
    subsampling: str = "420",
    empty: Iterable[int] = (),
    broken: Iterable[int] = (),
) -> Path:
    """Write a slide of one level at 0.5 µm.

    Parameters
    ----------
    photometric
        What the TIFF says of the colours.
    colours
        What the streams hold: YCBCR or RGB.
    empty, broken
        Tiles that are stored with no bytes at all, and tiles whose stream is damaged.
    """
    height_px, width_px = pixels.shape[:2]
    rows, columns = -(-height_px // TILE_PX), -(-width_px // TILE_PX)
    padded = np.pad(pixels, ((0, rows * TILE_PX - height_px), (0, columns * TILE_PX - width_px), (0, 0)), "edge")
    tiles = []
    for number in range(rows * columns):
        y, x = number // columns * TILE_PX, number % columns * TILE_PX
        tile = np.ascontiguousarray(padded[y : y + TILE_PX, x : x + TILE_PX])
        stream = bytes(
            imagecodecs.jpeg8_encode(tile, 80, colorspace="RGB", outcolorspace=colours, subsampling=subsampling)
        )
        if number in set(broken):
            stream = stream[: len(stream) // 3] + b"\xff\xd9" * 40
        tiles.append(b"" if number in set(empty) else stream)
    options: dict[str, Any] = {"subsampling": (2, 2)} if subsampling == "420" and photometric == "ycbcr" else {}
    if photometric == "rgb":
        options["compressionargs"] = {"outcolorspace": "rgb"}  # else it is written as YCbCr all the same
    tifffile.imwrite(
        path, iter(tiles), shape=pixels.shape, dtype=np.uint8, tile=(TILE_PX, TILE_PX), photometric=photometric,
        compression="jpeg", resolution=(2e4, 2e4), resolutionunit="CENTIMETER", metadata=None, **options,
    )  # fmt: skip
    return path
