"""Finds the patches in files of the original tool. They may come from anywhere: no link in them is followed."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from tasks.errors import InputError, IntegrityError
from tasks.patches.damage import damaged, named_damage, plain_dataset
from tasks.patches.shards.original_layout import TISSUES

# Both layouts of that tool, and its name for slides of CAMELYON16. Each step is a group.
_STEPS = [
    re.compile(pattern, re.ASCII)
    for pattern in (
        "|".join(TISSUES),
        r"(?:level|l)(?P<level>\d{1,2})",
        r"(?:centre|c)(?P<centre>\d{1,3})",
        r"(?:patient|p)(?P<patient>\d{1,3})(?P<mask>_Mask\.tif)?",
        r"(?:node|n)(?P<node>\d{1,2})",
        r"(?P<batch>\d{1,9})",
    )
]
_DATASETS: dict[str, np.dtype[Any]] = {"patches": np.dtype("uint8"), "locations": np.dtype("int64")}
_MAX_PATCH_PX = 4096
REMEDY = "get the file again; its other slides are not affected"


@dataclass(frozen=True, slots=True)
class Entry:
    """One group with patches and locations.

    Attributes
    ----------
    group
        Its path in the file.
    slide
        As CAMELYON names it.
    centre
        What the path says, None for CAMELYON16, where that tool always wrote 0.
    level
        Of the mask whose pixels the locations are.
    batch
        Number of the batch, 0 in the older layout.
    """

    group: str
    tissue: str
    slide: str
    centre: int | None
    level: int
    batch: int

    @property
    def order(self) -> tuple[bool, int, int]:
        """Sorts the entries of a slide: tumour first, then by level and batch."""
        return self.tissue != "tumor", self.level, self.batch


class OriginalEntries:
    """The entries of an open file.

    Attributes
    ----------
    path : Path
    entries : list[Entry]
    refused : list[str]
        Paths at which there should be a group, and is a link, something else, or a group that occurs twice.
    others : list[str]
        Paths with names that this tool did not use.
    """

    def __init__(self, path: Path, file: h5py.File) -> None:
        self.path = path
        self._file = file
        # Hard links can give one group any number of paths.
        self._seen: set[int] = set()
        self.refused: list[str] = []
        self.others: list[str] = []
        with as_input(path):
            self.entries = list(self._entries(file, ()))

    def datasets(self, entry: Entry) -> tuple[h5py.Dataset, h5py.Dataset]:
        """Give patches, uint8 (n, S, S, 3), and locations, int64 (n, 2), of an entry, checked but not read.

        Raises
        ------
        InputError
            They are not stored plainly in this file, or are no patches with their locations.
        """
        patches, locations = (self._plain_dataset(f"{entry.group}/{name}", dtype) for name, dtype in _DATASETS.items())
        side = patches.shape[1] if patches.ndim == 4 else 0
        good = (
            1 <= side <= _MAX_PATCH_PX
            and patches.shape[1:] == (side, side, 3)
            and locations.shape == (patches.shape[0], 2)
        )
        if not good:
            cause = f"has patches {patches.shape} with locations {locations.shape} in {entry.group}"
            raise InputError(cause, subject=self.path, remedy=REMEDY)
        return patches, locations

    def _entries(self, group: h5py.Group, path: tuple[str, ...]) -> Iterator[Entry]:
        facts = _facts(path)
        names = set(group)
        if ("node" in facts or "mask" in facts) and names.issuperset(_DATASETS):
            yield _entry(path, facts)
            names.difference_update(_DATASETS)
        for name in sorted(names):
            known = "mask" not in facts and len(path) < len(_STEPS) and _STEPS[len(path)].fullmatch(name)
            below = self._child(group, name) if known else None
            if isinstance(below, h5py.Group):
                yield from self._entries(below, (*path, name))
            else:
                (self.refused if known else self.others).append("/".join([*path, ascii(name)[1:-1]]))

    def _child(self, group: h5py.Group, name: str) -> Any:  # noqa: ANN401  # h5py has no types
        """Give what lies in the file itself under this name, and was not met before."""
        if not isinstance(group.get(name, getlink=True), h5py.HardLink):
            return None
        return group[name] if self._is_new(group[name]) else None

    def _plain_dataset(self, name: str, dtype: np.dtype[Any]) -> h5py.Dataset:
        with as_input(self.path):
            dataset = plain_dataset(self.path, self._file, name, dtype)
            if not self._is_new(dataset):
                raise damaged(self.path, f"has no {name} of its own")
        return dataset

    def _is_new(self, item: Any) -> bool:  # noqa: ANN401  # as above
        address = h5py.h5o.get_info(item.id).addr
        if address in self._seen:
            return False
        self._seen.add(address)
        return True


@contextmanager
def as_input(path: Path) -> Iterator[None]:
    """Say what is wrong with the file while it is read: it is the user's, not a site's."""
    try:
        with named_damage(path):
            yield
    except IntegrityError as error:
        raise InputError(error.cause, subject=path, remedy=REMEDY) from error


def _facts(path: tuple[str, ...]) -> dict[str, str]:
    """Read what the names of the groups say."""
    matches = (step.fullmatch(name) for step, name in zip(_STEPS, path, strict=False))
    found = (match.groupdict().items() for match in matches if match)
    return {key: value for items in found for key, value in items if value is not None}


def _entry(path: tuple[str, ...], facts: dict[str, str]) -> Entry:
    patient, node = int(facts["patient"]), facts.get("node")
    return Entry(
        group="/".join(path),
        tissue=path[0],
        slide=f"tumor_{patient:03}" if node is None else f"patient_{patient:03}_node_{int(node)}",
        centre=None if node is None else int(facts["centre"]),
        level=int(facts["level"]),
        batch=int(facts.get("batch", 0)),
    )
