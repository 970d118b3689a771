"""Annotation files of all kinds, told apart by their suffix."""

from __future__ import annotations

import logging
from collections.abc import Collection
from pathlib import Path

from tasks.errors import InputError
from tasks.slides.annotations import Annotations
from tasks.slides.asap import read_asap_xml
from tasks.slides.geojson import read_geojson
from tasks.slides.mask_tiff import read_mask_tiff

_log = logging.getLogger(__name__)

OUTLINE_SUFFIXES = frozenset({".xml", ".geojson", ".json"})
MASK_SUFFIXES = frozenset({".tif", ".tiff"})

# Some ten million corners of XML, which is read as it comes, and three million of JSON, which is held in memory.
_MOST_XML_BYTES = 1 << 30
_MOST_JSON_BYTES = 1 << 27


def read_annotations(path: Path, tumour_values: Collection[int] | None = None) -> Annotations:
    """Read the tumour outlines of a slide.

    Parameters
    ----------
    path
        ASAP XML (``.xml``), GeoJSON also as QuPath writes it (``.geojson``, ``.json``), or a mask (``.tif``,
        ``.tiff``).
    tumour_values
        Values of a mask that are tumour (see `read_mask_tiff`).

    Raises
    ------
    InputError
        The suffix is another one, the file is too large, or it is not what its suffix says.
    """
    suffix = path.suffix.lower()
    if suffix in MASK_SUFFIXES:
        found = read_mask_tiff(path, tumour_values)
    elif suffix == ".xml":
        _refuse_huge(path, _MOST_XML_BYTES)
        found = read_asap_xml(path)
    elif suffix in OUTLINE_SUFFIXES:
        _refuse_huge(path, _MOST_JSON_BYTES)
        found = read_geojson(path)
    else:
        raise InputError(
            "is in no annotation format that CamNet knows",
            subject=path,
            remedy=f"give ASAP XML, GeoJSON or a mask ({' '.join(sorted(OUTLINE_SUFFIXES | MASK_SUFFIXES))})",
        )
    for reason, count in found.dropped.items():
        _log.warning("%s: %d entries left out: %s", path, count, reason)
    return found


def _refuse_huge(path: Path, most_bytes: int) -> None:
    try:
        size = path.stat().st_size
    except OSError as error:
        raise InputError(f"cannot be read ({error})", subject=path, remedy="check the path") from error
    if size > most_bytes:
        raise InputError(
            f"has {size:,} bytes, more than the {most_bytes:,} that annotations may have",
            subject=path,
            remedy="export the annotations alone, without cells and measurements",
        )
