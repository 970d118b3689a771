"""Cuts the selected patches out of a slide into a shard."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tasks.config import PreprocessConfig
from tasks.errors import InputError
from tasks.patches.attributes import ShardAttributes
from tasks.patches.candidates import Candidates, Selection
from tasks.patches.filters import black_fraction, white_fraction
from tasks.patches.store import PatchBatch, write_shard
from tasks.slides.reader import SlideReader

UNREADABLE = "unreadable"
MAX_UNREADABLE_SHARE = 0.05
_BATCH_PATCHES = 32


@dataclass(frozen=True, slots=True)
class Extraction:
    """What became of a selection: patches kept by label, and positions left out by reason."""

    kept: Counter[int]
    rejected: Counter[str]

    @property
    def rows(self) -> int:
        """Number of patches in the shard."""
        return self.kept.total()

    @classmethod
    def empty(cls) -> Extraction:
        """Nothing was asked for."""
        return cls(Counter(), Counter())


def extract_patches(
    reader: SlideReader, selection: Selection, attributes: ShardAttributes, config: PreprocessConfig, path: Path
) -> Extraction:
    """Write the shard `path` with the selected patches, in the order of the selection.

    A patch that cannot be decoded is left out and counted, like one that is too white or too black.

    Raises
    ------
    InputError
        More than 5 % of the patches that were tried cannot be decoded: the slide is broken.
    """
    kept: Counter[int] = Counter()
    rejected = Counter(selection.rejected)
    batch = _Batch(selection.candidates)
    planned = _planned(selection)
    tried = 0
    with write_shard(path, attributes) as writer:
        for row, label in enumerate(selection.candidates.label.tolist()):
            if kept[label] >= selection.wanted.get(label, len(selection.candidates)):
                continue
            tried += 1
            pixels, white, reason = _cut(reader, selection.candidates, row, attributes, config)
            if pixels is None or reason is not None:
                rejected[reason or UNREADABLE] += 1
                _refuse_broken_slide(reader, rejected[UNREADABLE], tried, planned)
                continue
            kept[label] += 1
            batch.add(row, pixels, white)
            if len(batch.rows) == _BATCH_PATCHES:
                writer.append(batch.flush())
        if batch.rows:
            writer.append(batch.flush())
    return Extraction(kept, rejected)


def _cut(
    reader: SlideReader, candidates: Candidates, row: int, attributes: ShardAttributes, config: PreprocessConfig
) -> tuple[NDArray[np.uint8] | None, float, str | None]:
    """Give the pixels, their white fraction, and the reason to leave the patch out, if any."""
    x, y = int(candidates.x_level0_px[row]), int(candidates.y_level0_px[row])
    try:
        pixels = reader.read_region(x, y, attributes.level, attributes.patch_px, attributes.patch_px)
    except InputError:
        return None, 0.0, UNREADABLE
    white = white_fraction(pixels, config.white_level)
    if white > config.max_white_fraction:
        return pixels, white, "too white"
    if black_fraction(pixels) > config.max_black_fraction:
        return pixels, white, "too black"
    return pixels, white, None


def _planned(selection: Selection) -> int:
    """How many patches are tried at least."""
    labels, counts = np.unique(selection.candidates.label, return_counts=True)
    return sum(
        min(count, selection.wanted.get(label, count))
        for label, count in zip(labels.tolist(), counts.tolist(), strict=True)
    )


def _refuse_broken_slide(reader: SlideReader, unreadable: int, tried: int, planned: int) -> None:
    # One bad tile spoils a run of neighbours: until more is tried than planned, the share is that of the plan.
    if unreadable > max(planned, tried) * MAX_UNREADABLE_SHARE:
        raise InputError(
            f"cannot be decoded at {unreadable} of {tried} positions",
            subject=reader.path,
            remedy="get a new copy of the slide; other slides are not affected",
        )


class _Batch:
    """Patches on their way to the writer."""

    def __init__(self, candidates: Candidates) -> None:
        self._candidates = candidates
        self.rows: list[int] = []
        self._pixels: list[NDArray[np.uint8]] = []
        self._white: list[float] = []

    def add(self, row: int, pixels: NDArray[np.uint8], white: float) -> None:
        self.rows.append(row)
        self._pixels.append(pixels)
        self._white.append(white)

    def flush(self) -> PatchBatch:
        taken = self._candidates.take(np.asarray(self.rows, np.int64))
        batch = PatchBatch(
            np.stack(self._pixels),
            {
                "x_level0_px": taken.x_level0_px,
                "y_level0_px": taken.y_level0_px,
                "label": taken.label,
                "tumour_fraction": taken.tumour_fraction,
                "tissue_fraction": taken.tissue_fraction,
                "white_fraction": np.asarray(self._white, np.float32),
            },
        )
        self.rows, self._pixels, self._white = [], [], []
        return batch
