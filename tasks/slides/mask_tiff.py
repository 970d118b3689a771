"""Masks as TIFF pyramids, the other form in which CAMELYON16 and CAMELYON17 publish their annotations."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import tifffile

from tasks.errors import InputError
from tasks.slides.annotations import Annotations, Polygon
from tasks.slides.trace import trace

# The finest level that is no larger than this is traced: every 32nd pixel (8 µm) of a large slide.
_MOST_PX = 1 << 25
# A file may claim any size: more than this is not read, neither in one piece nor altogether.
_MOST_PIECE_PX = 1 << 26
_MOST_READ_PX = 1 << 36
_MOST_LEVELS = 64
_BUFFER_BYTES = 1 << 22
_RATIO_TOLERANCE = 0.02
_ALWAYS_TUMOUR = 255
# ASAP writes 0, 1 and 2, the challenge wrote 0 and 255; anything else is a picture, or a mask that was interpolated.
_MASK_VALUES = frozenset({0, 1, 2, _ALWAYS_TUMOUR})
_REMEDY = "give a pyramidal TIFF of one 8-bit channel with the values 0, 1, 2 or 255, as the challenges do"

Values = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class _Level:
    """The level to read: its page, and every how many pixels a sample is taken."""

    page: tifffile.TiffPage
    step: int
    downsample: float


def read_mask_tiff(path: Path, tumour_values: Collection[int] | None = None) -> Annotations:
    """Outline the tumour of a mask.

    The finest level of at most 32 million pixels is traced along the edges of its pixels, so that `tumour_mask`
    at the resolution of that level gives it back bit for bit. Of a file without such a level, pixels at even
    distances are taken. A tile that the file leaves out (sparse TIFF) holds no tumour.

    Parameters
    ----------
    path
        TIFF with one 8-bit channel, its highest level of the slide's size.
    tumour_values
        Values that are tumour, besides 255, which always is. None: the mask must say it by itself, with 0 and 255.

    Raises
    ------
    InputError
        The file is no such TIFF, is damaged, or holds values whose meaning is not known: 1 is tumour in masks
        that ASAP made of the annotations, but tissue in those that were published with 1 and 2.
    """
    with _named_faults(path), tifffile.TiffFile(path) as file:
        pages = _levels(file)
        _refuse_no_mask(pages[0], path)
        size_px = (int(pages[0].imagewidth), int(pages[0].imagelength))
        level = _level(pages, path)
        _refuse_missing_data(level.page, path)
        values = _read(level)
    tumour = _tumour(values, tumour_values, path)
    polygons = []
    for number, region in enumerate(trace(tumour, str(path)), start=1):
        outer, *inner = (ring * level.downsample * level.step for ring in region)
        polygons.append(Polygon(f"region {number}", "tumour", outer, tuple(inner)))
    return Annotations(tuple(polygons), source=str(path), image_px=size_px)


@contextmanager
def _named_faults(path: Path) -> Iterator[None]:
    try:
        yield
    except InputError:
        raise
    except Exception as error:  # tifffile and its decoders raise whatever a damaged file makes them stumble over
        raise InputError(
            f"cannot be read as a mask TIFF ({type(error).__name__}: {error})",
            subject=path,
            remedy="check that the file is complete; copy it again from its source",
        ) from error


def _levels(file: tifffile.TiffFile) -> list[tifffile.TiffPage]:
    """Pages of the pyramid, the full one first: reduced pages of the file, or sub-pages of its first one."""
    first = file.pages[0]
    others = [file.pages[index] for index in range(1, min(len(file.pages), _MOST_LEVELS))]
    others += list((first.pages or ())[:_MOST_LEVELS])
    reduced = [page for page in others if page.is_reduced and page.dtype == first.dtype]
    return [first, *(page for page in reduced if _shrunk(first, page))]


def _shrunk(first: tifffile.TiffPage, page: tifffile.TiffPage) -> bool:
    """Tell whether a page is the first one made smaller, alike in both directions."""
    if page.samplesperpixel != first.samplesperpixel or not page.imagewidth or not page.imagelength:
        return False
    x, y = first.imagewidth / page.imagewidth, first.imagelength / page.imagelength
    # The smallest levels are a few pixels wide, and rounded to whole ones.
    rounding = 1 / page.imagewidth + 1 / page.imagelength
    return bool(x > 1 and abs(x / y - 1) <= _RATIO_TOLERANCE + rounding)


def _refuse_no_mask(page: tifffile.TiffPage, path: Path) -> None:
    if page.samplesperpixel != 1 or page.dtype != np.uint8 or not page.imagewidth or not page.imagelength:
        raise InputError(
            f"is no mask: {page.imagewidth} x {page.imagelength} pixels with {page.samplesperpixel} channels "
            f"of type {page.dtype}",
            subject=path,
            remedy=_REMEDY,
        )


def _level(pages: Sequence[tifffile.TiffPage], path: Path) -> _Level:
    """Choose the finest level within the bound, or every so many pixels of the coarsest."""
    pages = sorted(pages, key=_pixels, reverse=True)
    page = next((page for page in pages if _pixels(page) <= _MOST_PX), pages[-1])
    strip_px = page.imagewidth * min(page.rowsperstrip or page.imagelength, page.imagelength)
    piece_px = page.tilewidth * page.tilelength if page.is_tiled else strip_px
    if piece_px > _MOST_PIECE_PX or _pixels(page) > _MOST_READ_PX:
        raise InputError(
            f"claims {page.imagewidth} x {page.imagelength} pixels in pieces of {piece_px}, too much to be read",
            subject=path,
            remedy="save the mask as a tiled pyramidal TIFF",
        )
    full = pages[0]
    downsample = (full.imagewidth / page.imagewidth + full.imagelength / page.imagelength) / 2
    return _Level(page, math.ceil(math.sqrt(_pixels(page) / _MOST_PX)), downsample)


def _refuse_missing_data(page: tifffile.TiffPage, path: Path) -> None:
    """Refuse what tifffile would take for pieces left out: an index cut off, data beyond the end of the file."""
    offsets, counts = np.array(page.dataoffsets, np.float64), np.array(page.databytecounts, np.float64)
    whole = len(offsets) == len(counts) == math.prod(page.chunked)
    if not whole or ((offsets == 0) != (counts == 0)).any() or (offsets + counts > path.stat().st_size).any():
        raise InputError(
            "does not have the data that its index names", subject=path, remedy="copy it again from its source"
        )


def _pixels(page: tifffile.TiffPage) -> int:
    return int(page.imagewidth) * int(page.imagelength)


def _read(level: _Level) -> Values:
    """Read the level piece by piece; uint8, shape (rows, columns)."""
    page, step = level.page, level.step
    rows, columns = _samples(page.imagelength, step), _samples(page.imagewidth, step)
    out = np.zeros((len(rows), len(columns)), np.uint8)
    for data, (_, _, top, left, _), (_, height, width, _) in page.segments(maxworkers=1, buffersize=_BUFFER_BYTES):
        if data is None:
            continue
        i, i_end = np.searchsorted(rows, (top, top + height))
        j, j_end = np.searchsorted(columns, (left, left + width))
        piece = data[0, ..., 0]
        out[i:i_end, j:j_end] = piece[np.ix_(rows[i:i_end] - top, columns[j:j_end] - left)]
    return out


def _samples(length_px: int, step: int) -> npt.NDArray[np.int64]:
    """Positions of the samples: the middle of each run of `step` pixels, the last of which may be shorter."""
    return np.minimum(np.arange(0, length_px, step) + step // 2, length_px - 1)


def _tumour(values: Values, stated: Collection[int] | None, path: Path) -> npt.NDArray[np.bool_]:
    found = np.flatnonzero(cv2.calcHist([values], [0], None, [256], [0, 256])).tolist()
    tumour = {_ALWAYS_TUMOUR, *(stated or ())}
    strange = sorted(set(found) - _MASK_VALUES - tumour)
    if strange:
        raise InputError(
            f"holds the values {', '.join(map(str, strange[:5]))}, so that it is no mask", subject=path, remedy=_REMEDY
        )
    if stated is None and not set(found) <= {0, _ALWAYS_TUMOUR}:
        raise InputError(
            f"holds the values {', '.join(map(str, found))}, which do not say what is tumour",
            subject=path,
            remedy=(
                "set cohort.tumour_values: [2] for the masks published with CAMELYON (1 is tissue, 2 is tumour), [1] "
                "for those that ASAP makes of annotations (1 is metastasis, 2 is normal)"
            ),
        )
    table = np.zeros(256, bool)
    table[sorted(tumour)] = True
    return table[values]
