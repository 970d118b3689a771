"""JPEG as the slide has it: the same quantiser tables, chroma resolution and colour space.

On a grid of whole blocks the coefficients then fall on the quantiser's own steps, and a patch is nearer to the slide
than at a higher quality and a larger size.
"""

from __future__ import annotations

import io
from functools import cache
from typing import Any

import simplejpeg
from PIL import Image, JpegImagePlugin

from tasks.patches.pixel_storage import Rgb

_QUALITY = 92
_SUBSAMPLING = {0: "444", 1: "422", 2: "420"}
Tables = dict[int, list[int]]


class JpegEncoder:
    """Encodes patches.

    Parameters
    ----------
    example
        A JPEG stream of the slide; None for a slide that has none: quality 92, full chroma resolution.
    """

    def __init__(self, example: bytes | None) -> None:
        self._quality: int | None = _QUALITY
        self._subsampling = "444"
        self._options: dict[str, Any] = {}
        if example is not None:
            self._imitate(example)

    def encode(self, pixels: Rgb) -> bytes:
        """Encode one patch, uint8 (H, W, 3), RGB."""
        if self._quality is not None:
            return bytes(simplejpeg.encode_jpeg(pixels, self._quality, "RGB", self._subsampling))
        stream = io.BytesIO()
        Image.fromarray(pixels).save(stream, "JPEG", **self._options)
        return stream.getvalue()

    def _imitate(self, example: bytes) -> None:
        with Image.open(io.BytesIO(example)) as image:
            if not isinstance(image, JpegImagePlugin.JpegImageFile):
                raise TypeError("the example is no JPEG")
            tables = {number: list(table) for number, table in image.quantization.items()}
            sampling = JpegImagePlugin.get_sampling(image)
            rgb = image.info.get("adobe_transform") == 0
        self._subsampling = _SUBSAMPLING.get(sampling, "444")
        self._quality = None if rgb or sampling not in _SUBSAMPLING else standard_quality(tables)
        self._options = {"qtables": tables, "subsampling": max(sampling, 0), "keep_rgb": rgb}


def standard_quality(tables: Tables) -> int | None:
    """Give the quality (1 to 100) whose standard tables these are, or None."""
    return next((quality for quality in range(100, 0, -1) if _standard_tables(quality) == tables), None)


@cache
def _standard_tables(quality: int) -> Tables:
    stream = io.BytesIO()
    Image.new("RGB", (8, 8)).save(stream, "JPEG", quality=quality)
    with Image.open(stream) as image:
        return {number: list(table) for number, table in image.quantization.items()}  # type: ignore[attr-defined]  # a JPEG has them
