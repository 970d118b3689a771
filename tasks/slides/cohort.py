"""Which slides there are, whose they are, and what is known of them."""

from __future__ import annotations

import logging
import os
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import openslide

from tasks.artifacts import Record
from tasks.config import CohortConfig
from tasks.errors import InputError
from tasks.slides.camelyon import INCOMPLETELY_ANNOTATED, Stage, StageTable, parse_name, read_stages

_log = logging.getLogger(__name__)

_EXTENSIONS = {
    ".tif", ".tiff", ".svs", ".ndpi", ".mrxs", ".scn", ".dcm", ".bif", ".svslide", ".vms", ".vmu", ".czi",
}  # fmt: skip
_NO_SLIDES_IN = re.compile(r"masks?|(lesion_)?annotations?|ground_?truth", re.IGNORECASE)
_NO_SLIDE = re.compile(r".*_mask", re.IGNORECASE)
_CENTRE_FOLDER = re.compile(r"cent(?:re|er)_(\d+)", re.IGNORECASE)
_ANNOTATION_FOLDERS = ("annotations", "lesion_annotations")
_STAGE_TABLES = ("stages.csv", "stage_labels.csv")

Truth = Literal["tumour", "negative", "unknown"]


class SlideRecord(Record):
    """One slide of a cohort.

    Attributes
    ----------
    name
        File name without extension.
    path
        The slide file.
    patient
        Splits never divide a patient. Names that say nothing of patients: the slide's name.
    node, centre
        Lymph node and medical centre, where known.
    annotation
        XML with this slide's name, or None.
    stage
        From the cohort's stage table, or None.
    truth
        ``tumour``: outlined tumour. ``negative``: known to have none. ``unknown``: neither.
    exhaustive
        All tumour is outlined, so that tissue outside the outlines is known to be normal.
    """

    name: str
    path: Path
    patient: str
    node: int | None = None
    centre: int | None = None
    annotation: Path | None = None
    stage: Stage | None = None
    truth: Truth
    exhaustive: bool


def find_slides(cohort: CohortConfig) -> list[SlideRecord]:
    """Find the slides of a cohort, sorted by name.

    The folder is searched recursively. Hidden files and folders, mask images, and folders of masks or annotations
    hold no slides. An annotation belongs to the slide that has its name (upper and lower case are the same); the
    places searched are ``cohort.annotations``, the slide's folder, and ``annotations`` and ``lesion_annotations``
    beside and above it, up to the folder that holds the cohort.

    Raises
    ------
    InputError
        There are no slides, two have one name, a slide has two annotations in one place, a stage table is
        wrong, or it calls a slide negative that has an annotation.
    """
    root = cohort.slides
    paths = [root] if root.is_file() else _one_file_a_slide(sorted(_slide_files(root)))
    if not paths:
        raise InputError(
            "has no slides" if root.is_dir() else "is neither a folder nor a slide",
            subject=root,
            remedy=f"name a folder with slides ({' '.join(sorted(_EXTENSIONS))}), or make some with `camnet synth`",
        )
    _refuse_same_names(paths)
    stages = _stages(cohort)
    places = _AnnotationPlaces(cohort)
    records = [_record(path, stages, places.find(path)) for path in paths]
    return sorted(records, key=lambda record: record.name)


def _slide_files(root: Path) -> Iterator[Path]:
    ignored = 0
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
            if name.startswith(".") or path.suffix.lower() not in _EXTENSIONS:
                continue
            if _NO_SLIDE.fullmatch(path.stem):
                ignored += 1
                continue
            yield path
    if ignored:
        _log.info("%s: %d mask images are not taken as slides", root, ignored)


def _one_file_a_slide(paths: list[Path]) -> list[Path]:
    """Keep the first file of each DICOM series: its other files are levels of the same slide."""
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


def _refuse_same_names(paths: list[Path]) -> None:
    by_name: dict[str, Path] = {}
    for path in paths:
        other = by_name.setdefault(path.stem.lower(), path)
        if other is not path:
            raise InputError(
                f"has the same name as {other}",
                subject=path,
                remedy="rename one of the two, or take one out: results are named after the slide",
            )


def _stages(cohort: CohortConfig) -> StageTable:
    if cohort.stages is not None:
        return read_stages(cohort.stages)
    root = cohort.slides.parent if cohort.slides.is_file() else cohort.slides
    for folder in (root, root.parent):
        for name in _STAGE_TABLES:
            if (folder / name).is_file():
                return read_stages(folder / name)
    below = sorted(path for name in _STAGE_TABLES for path in root.rglob(name))
    return read_stages(below[0]) if below else StageTable(slides={}, patients={})


class _AnnotationPlaces:
    """Finds the XML of a slide; each folder is listed once."""

    def __init__(self, cohort: CohortConfig) -> None:
        self._given = cohort.annotations
        root = cohort.slides.parent if cohort.slides.is_file() else cohort.slides
        self._top = root.absolute().parent
        self._listed: dict[Path, dict[str, list[Path]]] = {}
        if self._given is not None and not self._given.is_dir():
            raise InputError("is no folder", subject=self._given, remedy="name the folder with the XML annotations")

    def find(self, slide: Path) -> Path | None:
        for folder, recursive in self._folders(slide):
            found = self._list(folder, recursive).get(slide.stem.lower(), [])
            if len(found) > 1:
                raise InputError(
                    f"has two annotations, {found[0]} and {found[1]}",
                    subject=slide,
                    remedy="remove one of them",
                )
            if found:
                return found[0]
        return None

    def _folders(self, slide: Path) -> Iterator[tuple[Path, bool]]:
        if self._given is not None:
            yield self._given, True
        yield slide.parent, False
        for folder in slide.absolute().parents:
            for name in _ANNOTATION_FOLDERS:
                yield folder / name, True
            if folder == self._top:
                return

    def _list(self, folder: Path, recursive: bool) -> dict[str, list[Path]]:
        if folder not in self._listed:
            names: dict[str, list[Path]] = defaultdict(list)
            pattern = "**/*" if recursive else "*"
            for path in sorted(folder.glob(pattern)) if folder.is_dir() else []:
                if path.suffix.lower() == ".xml" and not path.name.startswith("."):
                    names[path.stem.lower()].append(path)
            self._listed[folder] = names
        return self._listed[folder]


def _record(path: Path, stages: StageTable, annotation: Path | None) -> SlideRecord:
    name = parse_name(path.stem)
    stage = stages.slides.get(path.stem.lower())
    known_negative = stage == "negative" or (stage is None and name.kind == "normal")
    if annotation and known_negative:
        raise InputError(
            f"is known as negative but has the annotation {annotation}",
            subject=path,
            remedy="correct the stage table, or take the annotation away",
        )
    truth: Truth = "tumour" if annotation else "negative" if known_negative else "unknown"
    # CAMELYON outlines isolated tumour cells only by example.
    partly = path.stem.lower() in INCOMPLETELY_ANNOTATED or stage == "itc"
    return SlideRecord(
        name=path.stem,
        path=path,
        patient=name.patient,
        node=name.node,
        centre=name.centre if name.centre is not None else _centre_of_folder(path),
        annotation=annotation,
        stage=stage,
        truth=truth,
        exhaustive=truth != "unknown" and not partly,
    )


def _centre_of_folder(path: Path) -> int | None:
    for folder in path.parts[-2::-1]:
        if match := _CENTRE_FOLDER.fullmatch(folder):
            return int(match[1])
    return None
