"""Which files of a folder are slides."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterator
from pathlib import Path

import openslide

_log = logging.getLogger(__name__)

SLIDE_SUFFIXES = frozenset(
    {".tif", ".tiff", ".svs", ".ndpi", ".mrxs", ".scn", ".dcm", ".bif", ".svslide", ".vms", ".vmu", ".czi"}
)
_NO_SLIDES_IN = re.compile(
    r"(\w+_)?masks?|(lesion_)?annotations?|ground_?truth|background_tissue|evaluation", re.IGNORECASE
)
# CAMELYON16 is published with a mask of the tumour and one of the tissue beside each slide.
_NO_SLIDE = re.compile(r".*_mask|(normal|tumor|test)_\d{3}_tissue", re.IGNORECASE)
_ARCHIVE = ".zip"


def slide_files(root: Path) -> list[Path]:
    """Find the slide files of a folder and the folders in it, sorted.

    Hidden files and folders, masks, and folders of masks, annotations or evaluations hold no slides. Of a DICOM
    series the first file stands for all: the others are levels of the same slide.
    """
    found = sorted(_files(root))
    archives = [path for path in found if path.suffix.lower() == _ARCHIVE]
    if archives:
        _log.warning("%s: %d archives are not unpacked, the first is %s", root, len(archives), archives[0].name)
    slides = [path for path in found if path.suffix.lower() != _ARCHIVE]
    masks = [path for path in slides if _NO_SLIDE.fullmatch(path.stem)]
    if masks:
        _log.info("%s: %d mask images are not taken as slides", root, len(masks))
    return _one_file_a_slide([path for path in slides if not _NO_SLIDE.fullmatch(path.stem)])


def has_archives(root: Path) -> bool:
    """Tell whether the folder holds archives, in which CAMELYON17 comes patient by patient."""
    return any(path.suffix.lower() == _ARCHIVE for path in _files(root))


def _files(root: Path) -> Iterator[Path]:
    """Yield the slides, masks and archives of a folder."""
    seen: set[str] = set()
    # Cohorts are often folders of links to a shared disk, so links are followed, each folder once.
    for folder, folders, files in os.walk(root, followlinks=True):
        real = os.path.realpath(folder)
        folders[:] = (
            [] if real in seen else [n for n in folders if not (n.startswith(".") or _NO_SLIDES_IN.fullmatch(n))]
        )
        if real in seen:
            continue
        seen.add(real)
        for name in files:
            path = Path(folder, name)
            if not name.startswith(".") and path.suffix.lower() in SLIDE_SUFFIXES | {_ARCHIVE}:
                yield path


def _one_file_a_slide(paths: list[Path]) -> list[Path]:
    kept = []
    series: set[tuple[Path, str]] = set()
    for path in paths:
        if path.suffix.lower() == ".dcm":
            key = (path.parent, _series(path))
            if key in series:
                continue
            series.add(key)
        kept.append(path)
    return kept


def _series(path: Path) -> str:
    try:
        with openslide.OpenSlide(path) as slide:
            return str(slide.properties.get("dicom.SeriesInstanceUID", path.name))
    except openslide.OpenSlideError:
        # It stays in the cohort under its own name and fails there, named, when it is opened for reading.
        return path.name
