"""Cohorts as a table: a CSV with one slide a line."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

from tasks.cohort_config import MPP_RANGE
from tasks.config import Split
from tasks.errors import InputError
from tasks.slides.camelyon import Stage, parse_name

Label = Literal["tumour", "negative"]
T = TypeVar("T")

_COLUMNS = {
    "slide": "slide", "path": "path", "slide_path": "path", "file": "path",
    "patient": "patient", "patient_id": "patient", "node": "node", "centre": "centre", "center": "centre",
    "split": "split", "label": "label", "annotation": "annotation", "mpp": "mpp",
}  # fmt: skip
SPLIT_NAMES: dict[str, Split] = {
    "train": "train", "training": "train", "validation": "validation", "valid": "validation", "val": "validation",
    "test": "test", "testing": "test",
}  # fmt: skip
_LABELS: dict[str, tuple[Label | None, Stage | None]] = {
    "tumour": ("tumour", None), "tumor": ("tumour", None), "metastasis": ("tumour", None),
    "positive": ("tumour", None), "1": ("tumour", None), "1.0": ("tumour", None),
    "negative": ("negative", "negative"), "normal": ("negative", "negative"), "0": ("negative", "negative"),
    "0.0": ("negative", "negative"),
    "itc": ("tumour", "itc"), "micro": ("tumour", "micro"), "macro": ("tumour", "macro"), "unknown": (None, None),
}  # fmt: skip
_CENTRE = re.compile(r"(?:cent(?:re|er)[ _]?)?(\d{1,6})(?:\.0)?", re.IGNORECASE)
_NODE = re.compile(r"(?:node[ _]?)?(\d{1,6})(?:\.0)?", re.IGNORECASE)
_NAME = re.compile(r"[^/\\\x00-\x1f\x7f.][^/\\\x00-\x1f\x7f]*")
_MOST_NAME_BYTES = 200


@dataclass(frozen=True, slots=True)
class SlideEntry:
    """One slide as it is listed: its file, and what the list says of it.

    Attributes
    ----------
    where
        What an error is about: the file, or the line of the table.
    name
        Names the results; the file's name without its suffix, or what the table says.
    annotated
        The table says which annotation the slide has, also when it has none: no other is looked for.
    """

    path: Path
    where: str
    name: str
    patient: str
    node: int | None = None
    centre: int | None = None
    split: Split | None = None
    label: Label | None = None
    stage: Stage | None = None
    annotation: Path | None = None
    annotated: bool = False
    mpp: float | None = None


def read_slide_table(path: Path) -> list[SlideEntry]:
    """Read a CSV of slides (separated by commas, semicolons or tabs).

    Columns are known by their names, in any order: ``path`` (or ``slide``), ``patient``, ``node``, ``centre``,
    ``split``, ``label``, ``annotation``, ``mpp``; with both ``slide`` and ``path``, the first is the slide's
    name. Others are allowed and not read. Relative paths are relative to the table. An empty cell says nothing.

    Raises
    ------
    InputError
        Names the line: a file is missing, a cell says what is not known, or a patient is in two splits or spellings.
    """
    entries = [_entry(cells, line, path) for line, cells in _lines(path)]
    if not entries:
        raise InputError("names no slides", subject=path, remedy="give one line a slide below the names of the columns")
    _refuse_divided_patients(entries)
    return entries


def _lines(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield the number of each line that is not empty, and its cells by column."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            first = file.readline()
            file.seek(0)
            rows = csv.reader(file, delimiter=max(",;\t", key=first.count))
            names = _names(next(rows, []), path)
            for row in rows:
                if len(row) > len(names):
                    raise InputError(
                        f"has {len(row)} cells, more than the {len(names)} columns",
                        subject=_where(path, rows.line_num),
                        remedy="put a cell that has the separator in it between double quotes",
                    )
                cells = [cell.strip() for cell in row] + [""] * (len(names) - len(row))
                if any(cells):
                    yield rows.line_num, {name: cell for name, cell in zip(names, cells, strict=True) if name}
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(
            f"cannot be read as a table ({error})", subject=path, remedy="save it as CSV, UTF-8"
        ) from error


def _names(header: list[str], path: Path) -> list[str]:
    """Say what each column is; "" for one that is not read."""
    names = [_COLUMNS.get(re.sub(r"[ -]+", "_", cell.strip().lower()), "") for cell in header]
    for name in _COLUMNS.values():
        if names.count(name) > 1:
            raise InputError(f"has two columns for {name}", subject=path, remedy="keep one of them")
    if "path" not in names and "slide" not in names:
        raise InputError(
            f"has no column 'path' or 'slide', only {', '.join(map(repr, header[:20])) or 'nothing'}",
            subject=path,
            remedy="name the columns in the first line; known are " + ", ".join(sorted(set(_COLUMNS.values()))),
        )
    if "path" not in names:
        names[names.index("slide")] = "path"
    return names


def _where(path: Path, line: int) -> str:
    return f"{path}, line {line}"


def _entry(cells: dict[str, str], line: int, table: Path) -> SlideEntry:
    where = _where(table, line)
    slide = _file(cells, "path", table, where)
    if slide is None:
        raise InputError("names no slide", subject=where, remedy="fill the column 'path', or delete the line")
    name = _read(cells, "slide", _name, where) or slide.stem
    known = parse_name(slide.stem)
    label, stage = _known(cells, "label", _LABELS, where) or (None, None)
    return SlideEntry(
        path=slide,
        where=where,
        name=name,
        patient=cells.get("patient") or (known.patient if known.kind or known.node is not None else name),
        node=_read(cells, "node", lambda text: _whole(_NODE, text), where),
        centre=_read(cells, "centre", lambda text: _whole(_CENTRE, text), where),
        split=_known(cells, "split", SPLIT_NAMES, where),
        label=label,
        stage=stage,
        annotation=_file(cells, "annotation", table, where),
        annotated="annotation" in cells,
        mpp=_read(cells, "mpp", _mpp, where),
    )


def _file(cells: dict[str, str], column: str, table: Path, where: str) -> Path | None:
    if not cells.get(column):
        return None
    path = table.parent / cells[column]
    if not _is_file(path):
        raise InputError(
            f"names the {column} {path}, which is no file, or not yours to read",
            subject=where,
            remedy="correct the path; a relative one begins at the folder of the table",
        )
    return path


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # in a closed folder, or a name that no file can have
        return False


def _known(cells: dict[str, str], column: str, known: dict[str, T], where: str) -> T | None:
    text = cells.get(column)
    if not text:
        return None
    if text.lower() not in known:
        raise InputError(
            f"has the unknown {column} {text!r}",
            subject=where,
            remedy=f"use one of {', '.join(known)}, or leave the cell empty",
        )
    return known[text.lower()]


def _read(cells: dict[str, str], column: str, convert: Callable[[str], Any], where: str) -> Any:  # noqa: ANN401
    text = cells.get(column)
    if not text:
        return None
    try:
        return convert(text)
    except ValueError as error:
        raise InputError(f"has the {column} {text!r}", subject=where, remedy=f"use {error}") from error


def _name(text: str) -> str:
    if not _NAME.fullmatch(text) or len(text.encode()) > _MOST_NAME_BYTES:
        raise ValueError("a name that a file can have, without slashes, not beginning with a point")
    return text


def _whole(pattern: re.Pattern[str], text: str) -> int:
    match = pattern.fullmatch(text)
    if match is None:
        raise ValueError("a whole number from 0 up")
    return int(match[1])


def _mpp(text: str) -> float:
    low, high = MPP_RANGE
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not low < value < high:
        raise ValueError(f"the µm per pixel of the highest level, between {low:g} and {high:g}")
    return value


def _refuse_divided_patients(entries: list[SlideEntry]) -> None:
    """Refuse a patient in two splits, and one under two spellings, who would come into two splits later."""
    first: dict[str, SlideEntry] = {}
    with_split: dict[str, SlideEntry] = {}
    for entry in entries:
        known = first.setdefault(entry.patient.lower(), entry)
        if known.patient != entry.patient:
            raise InputError(
                f"names the patient {entry.patient!r}, but {known.where} writes {known.patient!r}",
                subject=entry.where,
                remedy="write the patient alike on all lines",
            )
        other = with_split.setdefault(entry.patient, entry) if entry.split else entry
        if other.split != entry.split:
            raise InputError(
                f"puts patient {entry.patient!r} into {entry.split!r}, but {other.where} into {other.split!r}",
                subject=entry.where,
                remedy="give all slides of a patient the same split",
            )
