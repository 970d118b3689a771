"""The labelled patches of all shards of a training, checked before the first step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tasks.config import Encoding, Split
from tasks.errors import InputError
from tasks.patches.store import open_shard

SPLITS: tuple[Split, ...] = ("train", "validation", "test")


MOST_MPP_RATIO = 1.15
"""Scanners differ by a tenth at the same magnification (CAMELYON: 0.226 to 0.25 µm); magnifications by a half."""


@dataclass(frozen=True)
class ShardFacts:
    """What a training must know of one shard; pixels stay on disk."""

    path: Path
    split: Split
    patient: str
    patch_px: int
    mpp: float
    label: NDArray[np.int8]
    centre: int | None = None
    encoding: Encoding = "raw"
    slide: str = ""


@dataclass(frozen=True)
class LabelledRows:
    """The rows with a known label of all shards of one split, in the order of the shards.

    Attributes
    ----------
    shards
        Shards of the split.
    shard
        (N,) position in `shards` of the file that holds the row.
    row
        (N,) row in that file.
    label
        (N,) 1 tumour, 0 normal.
    """

    shards: tuple[ShardFacts, ...]
    shard: NDArray[np.int64]
    row: NDArray[np.int64]
    label: NDArray[np.int8]

    def __len__(self) -> int:
        return len(self.row)

    @property
    def patients(self) -> NDArray[np.str_]:
        """(N,) patient of each row."""
        return np.array([facts.patient for facts in self.shards], dtype=np.str_)[self.shard]

    @property
    def centres(self) -> NDArray[np.int64]:
        """(N,) medical centre of each row, -1 where it is not known."""
        known = [-1 if facts.centre is None else facts.centre for facts in self.shards]
        return np.array(known, dtype=np.int64)[self.shard]

    def describe(self, rows: NDArray[np.int64]) -> str:
        """Name some rows (at most four) for a message, as ``FILE row 7``."""
        named = [f"{self.shards[self.shard[row]].path.name} row {self.row[row]}" for row in rows[:4]]
        return ", ".join(named) + (f" and {len(rows) - 4} more" if len(rows) > 4 else "")


@dataclass(frozen=True)
class Cohort:
    """All shards of a training."""

    shards: tuple[ShardFacts, ...]

    @property
    def patch_px(self) -> int:
        """Side of the patches, the same in all shards."""
        return self.shards[0].patch_px

    @property
    def mpp(self) -> float:
        """Mean µm per pixel of the patches that are trained on."""
        rows = self.rows("train")
        return float(np.mean(np.array([facts.mpp for facts in rows.shards])[rows.shard]))

    def rows(self, split: Split) -> LabelledRows:
        """Labelled rows of one split; rows whose label is unknown (-1) are left out."""
        shards = tuple(facts for facts in self.shards if facts.split == split)
        known = [np.flatnonzero(facts.label >= 0) for facts in shards]
        return LabelledRows(
            shards=shards,
            shard=np.repeat(np.arange(len(shards)), [len(rows) for rows in known]),
            row=np.concatenate([np.empty(0, np.int64), *known]),
            label=np.concatenate([np.empty(0, np.int8), *(f.label[r] for f, r in zip(shards, known, strict=True))]),
        )

    def patients(self, split: Split) -> tuple[str, ...]:
        """Patients of one split, sorted."""
        return tuple(sorted({facts.patient for facts in self.shards if facts.split == split}))


def read_cohort(paths: Sequence[Path]) -> Cohort:
    """Read attributes and labels of all shards and check that they can be trained on together.

    Raises
    ------
    InputError
        A patient is in two splits, patches differ in size or scale, or the training split lacks a class.
    IntegrityError
        A shard is damaged.
    """
    if not paths:
        raise InputError("there is no shard to train on", remedy="run `camnet preprocess` first")
    return checked_cohort([read_facts(path) for path in paths])


def checked_cohort(shards: Sequence[ShardFacts]) -> Cohort:
    """Check that shards can be trained on together, as `read_cohort` does."""
    cohort = Cohort(tuple(shards))
    _refuse_leakage(cohort)
    _refuse_mixed_patches(cohort)
    _refuse_missing_class(cohort)
    return cohort


def read_facts(path: Path) -> ShardFacts:
    """Read attributes and labels of one shard.

    Raises
    ------
    IntegrityError
        It is damaged.
    """
    with open_shard(path) as shard:
        stated = shard.attributes
        return ShardFacts(
            path=path,
            split=stated.split,
            patient=stated.patient,
            patch_px=stated.patch_px,
            mpp=stated.mpp,
            label=shard.label,
            centre=stated.centre,
            encoding=stated.encoding,
            slide=stated.slide,
        )


def _refuse_leakage(cohort: Cohort) -> None:
    splits: dict[str, set[str]] = {}
    for facts in cohort.shards:
        splits.setdefault(facts.patient, set()).add(facts.split)
    leaking = sorted(f"{patient} ({' and '.join(sorted(of))})" for patient, of in splits.items() if len(of) > 1)
    if leaking:
        raise InputError(
            f"patients are in more than one split: {', '.join(leaking)}",
            remedy="divide the cohort by patient and make the shards again; a model must be judged on other patients",
        )


def _refuse_mixed_patches(cohort: Cohort) -> None:
    first = max(cohort.shards, key=lambda facts: np.count_nonzero(facts.label >= 0))
    for facts in cohort.shards:
        # Patches of slides whose truth is not known are not trained on: their scale does not matter.
        known = bool((facts.label >= 0).any())
        alike = max(facts.mpp, first.mpp) <= min(facts.mpp, first.mpp) * MOST_MPP_RATIO
        if facts.patch_px != first.patch_px or (known and not alike):
            raise InputError(
                f"has patches of {facts.patch_px} px at {facts.mpp:.4g} µm per pixel, "
                f"but {first.path.name} has {first.patch_px} px at {first.mpp:.4g} µm per pixel",
                subject=facts.path,
                remedy="make all shards with the same preprocess.patch_px and preprocess.mpp",
            )


def _refuse_missing_class(cohort: Cohort) -> None:
    labels = cohort.rows("train").label
    for value, name in ((1, "tumour"), (0, "normal")):
        if not np.any(labels == value):
            raise InputError(
                f"the training split has no {name} patches ({len(labels)} labelled patches in all)",
                remedy=f"add slides of training patients with annotated tumour, or raise preprocess.{name}_patches",
            )
