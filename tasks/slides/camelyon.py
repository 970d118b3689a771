"""What CAMELYON16 and CAMELYON17 say by their file names and tables."""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar, get_args

from tasks.errors import InputError

Stage = Literal["negative", "itc", "micro", "macro"]
PatientStage = Literal["pN0", "pN0(i+)", "pN1mi", "pN1", "pN2"]
T = TypeVar("T", bound=str)

# Their normal tissue holds tumour that nobody outlined: nothing outside the polygons is known to be normal.
INCOMPLETELY_ANNOTATED = frozenset(
    [
        f"tumor_{number:03}"
        for number in (10, 15, 18, 20, 25, 29, 33, 34, 44, 46, 51, 54, 55, 56, 67, 79, 85, 92, 95, 110)
    ]
    + ["test_114"]
)

_CAMELYON17 = re.compile(r"patient_(\d{3})_node_(\d)", re.IGNORECASE)
_CAMELYON16 = re.compile(r"(normal|tumor|test)_(\d{3})", re.IGNORECASE)
_PATIENTS_A_CENTRE = 20
_TRAINING_PATIENTS = 100
_PN2_NODES = 4


@dataclass(frozen=True)
class SlideName:
    """What a slide's name says.

    Attributes
    ----------
    patient
        CAMELYON17: ``patient_PPP``. CAMELYON16 and other names: the name itself, each slide its own patient.
    node
        Lymph node of the patient (CAMELYON17), else None.
    centre
        CAMELYON17 training patients: 0 to 4. None where the name does not tell.
    kind
        ``normal``, ``tumor`` or ``test`` (CAMELYON16), else None.
    """

    patient: str
    node: int | None = None
    centre: int | None = None
    kind: Literal["normal", "tumor", "test"] | None = None


def parse_name(stem: str) -> SlideName:
    """Read a slide's file name without its extension; upper and lower case are the same."""
    if match := _CAMELYON17.fullmatch(stem):
        number, node = int(match[1]), int(match[2])
        centre = number // _PATIENTS_A_CENTRE if number < _TRAINING_PATIENTS else None
        return SlideName(patient=f"patient_{number:03}", node=node, centre=centre)
    if match := _CAMELYON16.fullmatch(stem):
        kind = match[1].lower()
        return SlideName(patient=stem.lower(), kind=kind)  # type: ignore[arg-type]  # the pattern allows these three
    return SlideName(patient=stem)


@dataclass(frozen=True)
class StageTable:
    """A CAMELYON17 stage table.

    Attributes
    ----------
    slides
        Lower-case slide name (no extension) to stage.
    patients
        Lower-case patient to pN stage.
    """

    slides: dict[str, Stage]
    patients: dict[str, PatientStage]


def read_stages(path: Path) -> StageTable:
    """Read a ``patient,stage`` table: ``.zip`` rows give a patient's pN stage, other rows a slide's stage.

    Raises
    ------
    InputError
        The file cannot be read, has another header, an unknown stage, or the same name twice.
    """
    slides: dict[str, Stage] = {}
    patients: dict[str, PatientStage] = {}
    for number, (name, stage) in enumerate(_rows(path), start=2):
        stem, _, extension = name.rpartition(".")
        key = (stem or name).lower()
        if key in slides or key in patients:
            raise InputError(f"line {number} names {name!r} again", subject=path, remedy="keep one line a name")
        if extension.lower() == "zip":
            patients[key] = _one_of(stage, get_args(PatientStage), path, number)
        else:
            slides[key] = _one_of(stage, get_args(Stage), path, number)
    return StageTable(slides=slides, patients=patients)


def _rows(path: Path) -> list[tuple[str, str]]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.reader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"cannot be read as a table ({error})", subject=path, remedy="check the file") from error
    if not rows or [cell.strip().lower() for cell in rows[0]] != ["patient", "stage"]:
        raise InputError(
            "is no stage table", subject=path, remedy="its first line must be 'patient,stage', as in CAMELYON17"
        )
    short = [number for number, row in enumerate(rows[1:], start=2) if row and len(row) != 2]
    if short:
        raise InputError(f"line {short[0]} has not two columns", subject=path, remedy="mend that line")
    return [(row[0].strip(), row[1].strip()) for row in rows[1:] if row]


def _one_of(stage: str, known: tuple[T, ...], path: Path, number: int) -> T:
    for name in known:
        if name.lower() == stage.lower():
            return name
    raise InputError(
        f"line {number} has the unknown stage {stage!r}", subject=path, remedy=f"use one of {', '.join(known)}"
    )


def patient_stage(nodes: Iterable[Stage]) -> PatientStage:
    """Stage of a patient from the stages of the lymph nodes, by the rule of CAMELYON17.

    macro >= 1 and micro + macro >= 4: pN2; macro >= 1: pN1; micro >= 1: pN1mi; itc >= 1: pN0(i+); else pN0.
    """
    count = Counter(nodes)
    if count["macro"]:
        return "pN2" if count["macro"] + count["micro"] >= _PN2_NODES else "pN1"
    if count["micro"]:
        return "pN1mi"
    return "pN0(i+)" if count["itc"] else "pN0"
