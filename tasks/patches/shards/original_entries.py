"""Finds the patches in files of the original tool. They may come from anywhere: no link in them is followed."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from tasks.errors import InputError
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
_DATASETS = ("patches", "locations")
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
    entries : list[Entry]
    refused : list[str]
        Paths at which there should be a group, and is a link, something else, or a group that occurs twice.
    others : list[str]
        Paths with names that this tool did not use.
    """

    def __init__(self, file: h5py.File) -> None:
        self._file = file
        # Hard links can give one group any number of paths.
        self._seen: set[int] = set()
        self.refused: list[str] = []
        self.others: list[str] = []
        self.entries = list(self._entries(file, ()))

    def datasets(self, entry: Entry) -> tuple[h5py.Dataset, h5py.Dataset]:
        """Give patches, uint8 (n, S, S, 3), and locations, int64 (n, 2), of an entry, checked but not read.

        Raises
        ------
        InputError
            They are not stored plainly in this file, or are no patches with their locations.
        """
        with named_damage(Path(self._file.filename)):
            patches, locations = (self._plain_dataset(self._file[entry.group], name) for name in _DATASETS)
        side = patches.shape[1] if patches.ndim == 4 else 0
        good = (
            patches.dtype == np.uint8
            and locations.dtype == np.int64
            and 1 <= side <= _MAX_PATCH_PX
            and patches.shape[1:] == (side, side, 3)
            and locations.shape == (patches.shape[0], 2)
        )
        if not good:
            raise self._error(
                f"has no patches in {entry.group} (patches: {patches.dtype} {patches.shape}, "
                f"locations: {locations.dtype} {locations.shape})"
            )
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
        child = group[name]
        address = h5py.h5o.get_info(child.id).addr
        if address in self._seen:
            return None
        self._seen.add(address)
        return child

    def _plain_dataset(self, group: h5py.Group, name: str) -> h5py.Dataset:
        dataset = self._child(group, name)
        where = f"{group.name}/{name}"
        if not isinstance(dataset, h5py.Dataset):
            raise self._error(f"has no array {where} of its own")
        if dataset.id.get_create_plist().get_nfilters() or dataset.is_virtual or dataset.external:
            raise self._error(f"keeps {where} behind a filter or in other files")
        # A few bytes of header can claim any shape; memory and disk are taken only for what is there.
        stored_bytes, nominal_bytes = dataset.id.get_storage_size(), math.prod(dataset.shape) * dataset.dtype.itemsize
        if not nominal_bytes <= stored_bytes <= self._file.id.get_filesize():
            raise self._error(f"states {nominal_bytes} bytes of {where} and holds {stored_bytes}")
        return dataset

    def _error(self, cause: str) -> InputError:
        return InputError(cause, subject=Path(self._file.filename), remedy=REMEDY)


@contextmanager
def named_damage(path: Path) -> Iterator[None]:
    """Say of which file an error of h5py is, while it is read."""
    try:
        yield
    except (OSError, RuntimeError, KeyError, ValueError, TypeError) as error:  # h5py has all of these for damaged files
        raise InputError(f"is damaged ({error})", subject=path, remedy=REMEDY) from error


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
