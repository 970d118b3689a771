"""Where the annotation of a slide may lie: by its name, never by anything else."""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from tasks.errors import InputError
from tasks.slides.annotation_files import MASK_SUFFIXES, OUTLINE_SUFFIXES

_FOLDER = re.compile(r"(lesion_)?annotations?|((lesion|tumou?r)_)?masks?|ground_?truth", re.IGNORECASE)
# Masks of tissue bear the names of the slides, too.
_TISSUE = re.compile(r"(background_)?tissue(_masks?)?", re.IGNORECASE)
_MASK = "_mask"
# Beside slides, JSON may be anything.
_SUFFIXES_BESIDE_SLIDES = (OUTLINE_SUFFIXES | MASK_SUFFIXES) - {".json"}

Index = dict[str, list[Path]]


class _Place(NamedTuple):
    """A folder to search; a folder of annotations is searched with the folders in it."""

    folder: Path
    of_annotations: bool


class AnnotationPlaces:
    """Finds the annotation of a slide; each folder is listed once.

    Parameters
    ----------
    given
        Folder that the user named, searched first.
    top
        The highest folder that is searched for folders of annotations.
    """

    def __init__(self, given: Path | None, top: Path) -> None:
        self._given = given
        self._top = top.absolute()
        self._listed: dict[_Place, tuple[Index, Index]] = {}
        self._below: dict[Path, list[Path]] = {}
        if given is not None and not given.is_dir():
            raise InputError("is no folder", subject=given, remedy="name the folder with the annotations")

    def find(self, slide: Path) -> Path | None:
        """Find the outlines with the slide's name; where there are none, its mask.

        Outlines are called like the slide, with or without its suffix; a mask like the slide with ``_mask``, in a
        folder of annotations also without. Upper and lower case are the same.

        Raises
        ------
        InputError
            There are two of one kind in one place.
        """
        for masks in (False, True):
            for place in self._places(slide):
                outlines, of_masks = self._list(place)
                index, keys = (of_masks, _mask_keys(slide, place)) if masks else (outlines, _outline_keys(slide))
                named = [path for key in keys for path in index.get(key, [])]
                # A folder that holds slides and annotations may be named as the one of annotations.
                found = [path for path in named if path.resolve() != slide.resolve()]
                if len(found) > 1:
                    raise InputError(
                        f"has two annotations, {found[0]} and {found[1]}", subject=slide, remedy="remove one of them"
                    )
                if found:
                    return found[0]
        return None

    def _places(self, slide: Path) -> Iterator[_Place]:
        if self._given is not None:
            yield _Place(self._given, of_annotations=True)
        yield _Place(slide.parent, of_annotations=False)
        folders = list(slide.absolute().parents)
        # A slide that a table names may lie anywhere: then its folder and the one above are searched.
        highest = folders.index(self._top) if self._top in folders else 1
        for folder in folders[: highest + 1]:
            for below in self._annotation_folders(folder):
                yield _Place(below, of_annotations=True)

    def _annotation_folders(self, folder: Path) -> list[Path]:
        if folder not in self._below:
            # A folder above the cohort may be closed to this user; it then holds nothing for them.
            names = sorted(path.name for path in folder.iterdir()) if os.access(folder, os.R_OK) else []
            below = [folder / name for name in names if _FOLDER.fullmatch(name)]
            self._below[folder] = [path for path in below if path.is_dir()]
        return self._below[folder]

    def _list(self, place: _Place) -> tuple[Index, Index]:
        """Outlines and masks of a place by their lower-case stems."""
        if place not in self._listed:
            outlines: Index = defaultdict(list)
            masks: Index = defaultdict(list)
            known = OUTLINE_SUFFIXES | MASK_SUFFIXES if place.of_annotations else _SUFFIXES_BESIDE_SLIDES
            for path in sorted(place.folder.glob("**/*" if place.of_annotations else "*")):
                inner = path.relative_to(place.folder).parts[:-1]
                if path.name.startswith(".") or any(_TISSUE.fullmatch(part) for part in inner):
                    continue
                if path.suffix.lower() in known:
                    index = masks if path.suffix.lower() in MASK_SUFFIXES else outlines
                    index[path.stem.lower()].append(path)
            self._listed[place] = (outlines, masks)
        return self._listed[place]


def _outline_keys(slide: Path) -> list[str]:
    return [slide.stem.lower(), slide.name.lower()]


def _mask_keys(slide: Path, place: _Place) -> list[str]:
    stem = slide.stem.lower()
    return [stem + _MASK, stem] if place.of_annotations else [stem + _MASK]
