"""The thumbnail that travels with a shard: all that a site without the slide sees of the whole."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tasks.errors import InputError
from tasks.picture_size import open_picture

_MOST_PX = 2048
_ASPECT_TOLERANCE = 0.02
_REMEDY = "make the thumbnail again at the site of the slide and transfer it again"


def read_thumbnail(path: Path, *, slide_width_px: int, slide_height_px: int) -> NDArray[np.uint8]:
    """Read a JPEG or PNG thumbnail, made smaller where a side has more than 2,048 pixels.

    Returns
    -------
    NDArray[np.uint8]
        (height, width, 3), RGB, the whole slide.

    Raises
    ------
    InputError
        The file is missing or no such image, or its proportions are not those of the slide.
    """
    try:
        with open_picture(path, ("JPEG", "PNG")) as image:
            image.thumbnail((_MOST_PX, _MOST_PX))
            pixels = np.asarray(image.convert("RGB"))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise InputError(f"cannot be read as an image ({error})", subject=path, remedy=_REMEDY) from error
    height_px, width_px = pixels.shape[:2]
    stretch = (width_px / height_px) / (slide_width_px / slide_height_px)
    # One pixel more or less is rounding, however small the image.
    if abs(stretch - 1) > _ASPECT_TOLERANCE + 1 / min(height_px, width_px):
        raise InputError(
            f"is {width_px}x{height_px} px, which are not the proportions of the slide "
            f"({slide_width_px}x{slide_height_px} px)",
            subject=path,
            remedy=_REMEDY,
        )
    return pixels
