"""Split lists of the original tool: which patches of its files are for training, validation and testing."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tasks.config import Split
from tasks.errors import InputError
from tasks.slides.slide_table import SPLIT_NAMES

# Both layouts of that tool, and its name for slides of CAMELYON16 with tumour.
_PATH = re.compile(
    r"(?:tumor|normal)/(?:level|l)\d{1,2}/(?:centre|c)\d{1,3}/"
    r"(?:patient|p)(?P<patient>\d{1,3})(?:_Mask\.tif|/(?:node|n)(?P<node>\d{1,2}))(?:/\d{1,9})?(?:/patches)?/?",
    re.ASCII,
)
_COLUMNS = "db, path, number, split"


@dataclass(frozen=True, slots=True)
class ListedSlide:
    """Split of a slide, and the line that says it first."""

    split: Split
    where: str


def read_split_lists(paths: Iterable[Path]) -> dict[str, ListedSlide]:
    """Read lists with lines ``db, path, number, split`` and no header.

    A path is that of a group in a file of that tool, for example
    ``tumor/level7/centre2/patient044/node4/patches`` for the slide ``patient_044_node_4`` and
    ``normal/level7/centre0/patient044_Mask.tif/patches`` for ``tumor_044``. One line is one patch, so a slide is
    on many lines; which patch it is, is not read: that tool cut other patches.

    Returns
    -------
    dict
        Slide name, in lower case, to its split.

    Raises
    ------
    InputError
        Names the line: it has other columns, an unknown split or no such path, or its slide is in another split
        elsewhere.
    """
    slides: dict[str, ListedSlide] = {}
    for path in paths:
        for where, slide, split in _lines(path):
            first = slides.setdefault(slide, ListedSlide(split, where))
            if first.split != split:
                raise InputError(
                    f"puts slide {slide} into {split!r}, but {first.where} into {first.split!r}",
                    subject=where,
                    remedy="leave a slide in one split: a model must be judged on other patients",
                )
    if not slides:
        raise InputError("the split lists name no slides", remedy=f"give lists with lines {_COLUMNS!r}")
    return slides


def _lines(path: Path) -> Iterator[tuple[str, str, Split]]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = csv.reader(file, skipinitialspace=True)
            for row in rows:
                cells = [cell.strip() for cell in row]
                if any(cells):
                    yield (f"{path}, line {rows.line_num}", *_slide(cells, f"{path}, line {rows.line_num}"))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"cannot be read as a list ({error})", subject=path, remedy="save it as CSV, UTF-8") from error


def _slide(cells: list[str], where: str) -> tuple[str, Split]:
    if len(cells) != len(_COLUMNS.split(",")):
        raise InputError(f"has {len(cells)} cells", subject=where, remedy=f"write {_COLUMNS!r}; there is no header")
    _, path, _, split = cells
    match = _PATH.fullmatch(path)
    if match is None:
        raise InputError(
            f"has the path {path!r}",
            subject=where,
            remedy="write {tumor|normal}/level<L>/centre<C>/patient<PPP>/node<N>/patches",
        )
    if split.lower() not in SPLIT_NAMES:
        raise InputError(f"has the split {split!r}", subject=where, remedy=f"use one of {', '.join(SPLIT_NAMES)}")
    number, node = int(match["patient"]), match["node"]
    slide = f"tumor_{number:03}" if node is None else f"patient_{number:03}_node_{int(node)}"
    return slide, SPLIT_NAMES[split.lower()]
