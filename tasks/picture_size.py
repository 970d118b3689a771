"""Pictures are believed to be as large as they say only up to a size: a few bytes can state any."""

from __future__ import annotations

import io
import warnings
from pathlib import Path

from PIL import Image

MOST_PX = 1 << 26
"""Of a picture that is read whole: some 200 MB of pixels."""


def open_picture(source: Path | io.BytesIO, formats: tuple[str, ...]) -> Image.Image:
    """Open a picture without decoding it, unless it states more than `MOST_PX` pixels.

    Raises
    ------
    Image.DecompressionBombError
        It does.
    OSError, SyntaxError, ValueError
        It is missing, or none of these formats.
    """
    with warnings.catch_warnings():
        # Pillow's own limits are a warning, then an error; ours is the smaller one.
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        image = Image.open(source, formats=formats)
    if image.width * image.height > MOST_PX:
        image.close()
        raise Image.DecompressionBombError(f"{image.width} x {image.height} px are more than {MOST_PX:,}")
    return image
