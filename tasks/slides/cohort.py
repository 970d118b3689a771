"""Which slides there are, whose they are, and what is known of them."""

from __future__ import annotations

import difflib
import re
from pathlib import Path
from typing import Literal

from tasks.artifacts import Record
from tasks.cohort_config import CohortConfig
from tasks.config import Split
from tasks.errors import InputError
from tasks.slides.annotation_files import MASK_SUFFIXES
from tasks.slides.annotation_places import AnnotationPlaces
from tasks.slides.camelyon import INCOMPLETELY_ANNOTATED, SlideName, Stage, StageTable, parse_name, read_stages
from tasks.slides.slide_folder import SLIDE_SUFFIXES, has_archives, slide_files
from tasks.slides.slide_table import Label, SlideEntry, read_slide_table

_CENTRE_FOLDER = re.compile(r"cent(?:re|er)_(\d+)", re.IGNORECASE)
_STAGE_TABLES = ("stages.csv", "stage_labels.csv")
_TABLE_SUFFIX = ".csv"

Truth = Literal["tumour", "negative", "unknown"]


class SlideRecord(Record):
    """One slide of a cohort.

    Attributes
    ----------
    name
        File name without extension, or the name that a table gives it.
    path
        The slide file.
    patient
        Splits never divide a patient. Names that say nothing of patients: the slide's name.
    node, centre
        Lymph node and medical centre, where known.
    annotation
        XML, GeoJSON or mask with this slide's name (or that a table names), or None.
    tumour_values
        Of a mask: the values that are tumour, where the configuration states them.
    stage
        From the cohort's stage table or table of slides, or None.
    label
        What the name or a table says of the whole slide, or None.
    truth
        ``tumour``: outlined tumour. ``negative``: known to have none. ``unknown``: neither.
    exhaustive
        All tumour is outlined, so that tissue outside the outlines is known to be normal.
    split
        As a table of slides gives it, or None.
    mpp
        µm per pixel as a table of slides gives it, or None.
    """

    name: str
    path: Path
    patient: str
    node: int | None = None
    centre: int | None = None
    annotation: Path | None = None
    tumour_values: tuple[int, ...] | None = None
    stage: Stage | None = None
    label: Label | None = None
    truth: Truth
    exhaustive: bool
    split: Split | None = None
    mpp: float | None = None


def find_slides(cohort: CohortConfig) -> list[SlideRecord]:
    """Find the slides of a cohort, sorted by name.

    ``cohort.slides`` is a folder, searched recursively (see `slide_files`), one slide, or a CSV of slides (see
    `read_slide_table`). An annotation belongs to the slide that has its name (see `AnnotationPlaces`): the places
    searched are ``cohort.annotations``, the slide's folder, and folders of annotations or masks beside and above
    it, up to the folder that holds the cohort. A mask of a slide known as negative is not taken: CAMELYON16
    publishes one for every slide, which shows the tissue.

    Raises
    ------
    InputError
        There are no slides, two have one name, a patient or centre that is asked for is not there, a slide has two
        annotations in one place, a table is wrong, or it calls a slide negative that has outlines.
    """
    entries = _selected(_entries(cohort.slides), cohort)
    stages = _stages(cohort)
    places = AnnotationPlaces(cohort.annotations, _folder(cohort.slides).absolute().parent)
    records = [_record(entry, stages, places, cohort) for entry in entries]
    return sorted(records, key=lambda record: record.name)


def _folder(slides: Path) -> Path:
    return slides.parent if slides.is_file() else slides


def _is_table(slides: Path) -> bool:
    return slides.suffix.lower() == _TABLE_SUFFIX and slides.is_file()


def _entries(root: Path) -> list[SlideEntry]:
    if _is_table(root):
        entries = read_slide_table(root)
    else:
        entries = [_from_name(path) for path in ([root] if root.is_file() else slide_files(root))]
    if not entries:
        unpack = "unpack its archives, or " if has_archives(root) else ""
        raise InputError(
            "has no slides" if root.is_dir() else "is neither a folder, nor a slide, nor a table of slides",
            subject=root,
            remedy=(
                f"{unpack}name a folder with slides ({' '.join(sorted(SLIDE_SUFFIXES))}) or a CSV of slides, "
                "or make some with `camnet synth`"
            ),
        )
    _refuse_same_names(entries)
    return entries


def _from_name(path: Path) -> SlideEntry:
    return SlideEntry(path=path, where=str(path), name=path.stem, patient=parse_name(path.stem).patient)


def _refuse_same_names(entries: list[SlideEntry]) -> None:
    by_name: dict[str, SlideEntry] = {}
    for entry in entries:
        other = by_name.setdefault(entry.name.lower(), entry)
        if other is not entry:
            raise InputError(
                f"has the same name as {other.where}",
                subject=entry.where,
                remedy="rename one of the two, or take one out: results are named after the slide",
            )


def _selected(entries: list[SlideEntry], cohort: CohortConfig) -> list[SlideEntry]:
    """Keep the patients and centres that are asked for."""
    _refuse_unknown(entries, cohort)
    wanted = {patient.lower() for patient in cohort.patients}
    kept = [entry for entry in entries if not wanted or entry.patient.lower() in wanted]
    kept = [entry for entry in kept if not cohort.centres or _centre(entry) in cohort.centres]
    if not kept:
        raise InputError(
            "has no slide of these patients in these centres",
            subject=cohort.slides,
            remedy="choose by cohort.patients or by cohort.centres alone",
        )
    return kept


def _refuse_unknown(entries: list[SlideEntry], cohort: CohortConfig) -> None:
    """Refuse a patient or centre that no slide has, with the nearest one that there is."""
    patients = {entry.patient.lower(): entry.patient for entry in entries}
    for patient in cohort.patients:
        if patient.lower() not in patients:
            (near,) = difflib.get_close_matches(patient.lower(), patients, n=1, cutoff=0)
            raise InputError(
                f"has no patient {patient!r}",
                subject=cohort.slides,
                remedy=f"name patients of the cohort in cohort.patients; the nearest is {patients[near]!r}",
            )
    centres = {centre for entry in entries if (centre := _centre(entry)) is not None}
    for number in cohort.centres:
        if number not in centres:
            near_centre = min(centres, key=lambda centre: abs(centre - number), default=None)
            remedy = f"name centres of the cohort in cohort.centres; the nearest is {near_centre}"
            if near_centre is None:
                remedy = "leave cohort.centres out: no name, folder or table tells the centre of these slides"
            raise InputError(f"has no slide of centre {number}", subject=cohort.slides, remedy=remedy)


def _stages(cohort: CohortConfig) -> StageTable:
    if cohort.stages is not None:
        return read_stages(cohort.stages)
    if _is_table(cohort.slides):
        return StageTable(slides={}, patients={})
    root = _folder(cohort.slides)
    for folder in (root, root.parent):
        for name in _STAGE_TABLES:
            if (folder / name).is_file():
                return read_stages(folder / name)
    below = sorted(path for name in _STAGE_TABLES for path in root.rglob(name))
    return read_stages(below[0]) if below else StageTable(slides={}, patients={})


def _record(entry: SlideEntry, stages: StageTable, places: AnnotationPlaces, cohort: CohortConfig) -> SlideRecord:
    name = parse_name(entry.path.stem)
    stage = entry.stage if entry.label else stages.slides.get(entry.path.stem.lower())
    label = _label(entry, stage, name)
    annotation = entry.annotation if entry.annotated else places.find(entry.path)
    is_mask = annotation is not None and annotation.suffix.lower() in MASK_SUFFIXES
    if label == "negative" and is_mask:
        annotation = None
    if label == "negative" and annotation is not None:
        raise InputError(
            f"is known as negative but has the annotation {annotation}",
            subject=entry.where,
            remedy="correct the table that calls it negative, or take the annotation away",
        )
    truth: Truth = "tumour" if annotation else "negative" if label == "negative" else "unknown"
    # CAMELYON outlines isolated tumour cells only by example.
    partly = bool({entry.path.stem.lower(), entry.name.lower()} & INCOMPLETELY_ANNOTATED) or stage == "itc"
    return SlideRecord(
        name=entry.name,
        path=entry.path,
        patient=entry.patient,
        node=entry.node if entry.node is not None else name.node,
        centre=_centre(entry),
        annotation=annotation,
        tumour_values=cohort.tumour_values if annotation and is_mask else None,
        stage=stage,
        label=label,
        truth=truth,
        exhaustive=truth != "unknown" and not partly,
        split=entry.split,
        mpp=entry.mpp,
    )


def _label(entry: SlideEntry, stage: Stage | None, name: SlideName) -> Label | None:
    """Whether the slide has tumour, from the first that says it: table of slides, stage table, name."""
    if entry.label:
        return entry.label
    if stage:
        return "negative" if stage == "negative" else "tumour"
    if name.kind in ("normal", "tumor"):
        return "negative" if name.kind == "normal" else "tumour"
    return None


def _centre(entry: SlideEntry) -> int | None:
    """From the table of slides, the name, or the nearest folder that bears the number of a centre."""
    if entry.centre is not None:
        return entry.centre
    name = parse_name(entry.path.stem)
    if name.centre is not None:
        return name.centre
    folders = entry.path.parts[-2::-1]
    return next((int(match[1]) for folder in folders if (match := _CENTRE_FOLDER.fullmatch(folder))), None)
