"""Pictures of a run as ``data:`` addresses, together small enough for one page."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from tasks.errors import InputError
from tasks.picture_size import open_picture

# Base64 makes 4 characters of 3 bytes, so that 20 slides with all their pictures stay below 15 MB.
ALL_PICTURES_BYTES = 10_500_000
_NARROWEST_PX = 320
_SHRINK = 0.9
_JPEG_QUALITY = 85
_FORMATS = ("PNG", "JPEG")


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture inside the page.

    Attributes
    ----------
    address
        ``data:`` address of the whole picture.
    width_px, height_px
        As it is in the page.
    original
        Name and size of the file that it was made smaller from; None when the page has the file's own bytes.
    """

    address: str
    width_px: int
    height_px: int
    original: str | None = None


def inline_pictures(widest_px: Mapping[Path, int], folder: Path) -> dict[Path, Picture | str]:
    """Read all pictures of a page; together they take at most about `ALL_PICTURES_BYTES`.

    Parameters
    ----------
    widest_px
        For each picture (a path relative to `folder`, or absolute) the width beyond which the page gains
        nothing. A picture may take bytes in proportion to it.

    Returns
    -------
    dict[Path, Picture | str]
        The picture, or the reason in words why it cannot be shown.
    """
    bytes_a_px = ALL_PICTURES_BYTES / max(sum(widest_px.values()), 1)
    shown: dict[Path, Picture | str] = {}
    for path, width_px in widest_px.items():
        try:
            shown[path] = inline_picture(folder / path, width_px, round(width_px * bytes_a_px))
        except InputError as error:
            shown[path] = f"{path.name} {error.cause}"
    return shown


def inline_picture(path: Path, widest_px: int, most_bytes: int) -> Picture:
    """Read a PNG or JPEG; one that is too wide or too big is made smaller and becomes a JPEG.

    Parameters
    ----------
    widest_px
        Greatest width in the page.
    most_bytes
        Greatest size before base64. A picture of 320 px is not made smaller to keep it.

    Raises
    ------
    InputError
        The file is missing, is no whole PNG or JPEG, or states too many pixels.
    """
    data, image = _read(path)
    if image.width <= widest_px and len(data) <= most_bytes:
        return Picture(_address(data, str(image.format)), image.width, image.height)
    original = f"{path.name}, {image.width} × {image.height} px"
    flat = _on_white(image)
    width_px = min(widest_px, flat.width)
    while True:
        smaller = flat.resize((width_px, max(1, round(flat.height * width_px / flat.width))), reducing_gap=2)
        encoded = _jpeg(smaller)
        if len(encoded) <= most_bytes or width_px <= _NARROWEST_PX:
            return Picture(_address(encoded, "JPEG"), smaller.width, smaller.height, original)
        shrink = min(_SHRINK, (most_bytes / len(encoded)) ** 0.5)
        width_px = max(_NARROWEST_PX, int(width_px * shrink))


def _read(path: Path) -> tuple[bytes, Image.Image]:
    try:
        data = path.read_bytes()
        image = open_picture(io.BytesIO(data), _FORMATS)
        image.load()
    except FileNotFoundError as error:
        raise InputError("is not there", subject=path, remedy="write the report again where the picture is") from error
    except Image.DecompressionBombError as error:
        raise InputError(f"is too large ({error})", subject=path, remedy="open the file itself") from error
    except (OSError, SyntaxError, UnidentifiedImageError) as error:
        raise InputError("is no whole PNG or JPEG", subject=path, remedy="run the stage that drew it again") from error
    return data, image


def _on_white(image: Image.Image) -> Image.Image:
    if not image.has_transparency_data:
        return image.convert("RGB")
    white = Image.new("RGBA", image.size, "white")
    return Image.alpha_composite(white, image.convert("RGBA")).convert("RGB")


def _jpeg(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    # Full colour resolution: outlines and map colours are thin and saturated.
    image.save(buffer, "JPEG", quality=_JPEG_QUALITY, subsampling=0)
    return buffer.getvalue()


def _address(data: bytes, kind: str) -> str:
    return f"data:image/{kind.lower()};base64,{base64.b64encode(data).decode('ascii')}"
