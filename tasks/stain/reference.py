"""The stain that all slides of a training are given, kept with the model."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydantic import Field

from tasks.artifacts import Record
from tasks.digests import bytes_digest
from tasks.errors import InputError, IntegrityError
from tasks.picture_size import open_picture
from tasks.stain.change import ColourChange
from tasks.stain.macenko import MacenkoStain, fit_macenko
from tasks.stain.reinhard import ReinhardStain, fit_reinhard

StainMethod = Literal["reinhard", "macenko"]


class StainReference(Record):
    """Stain that slides are given before the network sees them, in training, inference and explanations alike."""

    stain: ReinhardStain | MacenkoStain = Field(discriminator="method")
    source: str = Field(description="what it was measured on: the training patches, or a picture and its digest")

    def change_of(self, pixels: NDArray[np.uint8]) -> ColourChange | None:
        """Give the change for a slide of which `pixels`, uint8 (…, 3), RGB, are a sample.

        None, which leaves the slide as it is, when the sample has too little tissue to measure its stain.
        """
        if isinstance(self.stain, ReinhardStain):
            colours = fit_reinhard(pixels)
            return colours.toward(self.stain) if colours else None
        dyes = fit_macenko(pixels)
        return dyes.toward(self.stain) if dyes else None


def measure_reference(pixels: NDArray[np.uint8], method: StainMethod, *, source: str) -> StainReference:
    """Make a reference of the stain of `pixels`, uint8 (…, 3), RGB.

    Raises
    ------
    InputError
        There is too little stained tissue in them.
    """
    stain = fit_macenko(pixels) if method == "macenko" else fit_reinhard(pixels)
    if stain is None:
        raise InputError(
            f"no {method} stain can be measured on {source}: too little stained tissue, or one colour only",
            remedy="set train.stain_reference to a picture of well stained tissue",
        )
    return StainReference(stain=stain, source=source)


def picture_reference(path: Path, method: StainMethod, *, digest: str | None = None) -> StainReference:
    """Make a reference of the stain of a picture (PNG, TIFF, JPEG).

    Parameters
    ----------
    digest
        ``sha256:…`` that the file must have; None: any.

    Raises
    ------
    InputError
        It is no picture, states too many pixels, or shows too little stained tissue.
    IntegrityError
        It has another digest.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(
            f"cannot be read ({error.strerror})", subject=path, remedy="set train.stain_reference to a picture"
        ) from error
    found = bytes_digest(content)
    if digest and found != digest:
        raise IntegrityError(
            f"has the digest {found}, not {digest}",
            subject=path,
            remedy="copy the picture again, or correct the digest",
        )
    return measure_reference(_pixels(content, path), method, source=f"a picture ({found})")


def _pixels(content: bytes, path: Path) -> NDArray[np.uint8]:
    remedy = "set train.stain_reference to a PNG, TIFF or JPEG file of some square millimetres of tissue"
    try:
        open_picture(io.BytesIO(content), ("PNG", "TIFF", "JPEG")).close()
        pixels = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR_RGB)
    except Image.DecompressionBombError as error:
        raise InputError(f"is too large ({error})", subject=path, remedy=remedy) from error
    except (OSError, SyntaxError, ValueError, cv2.error) as error:
        raise InputError(f"is no picture ({error})", subject=path, remedy=remedy) from error
    if pixels is None:
        raise InputError("is no picture", subject=path, remedy=remedy)
    return pixels.astype(np.uint8)
