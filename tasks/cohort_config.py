"""Section ``[cohort]`` of the run configuration."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from tasks.settings import Settings

Centre = Annotated[int, Field(ge=0, le=999_999)]
# µm per pixel that the highest level of a slide may have, both excluded.
MPP_RANGE = (0.05, 20.0)


class CohortConfig(Settings):
    """Which slides, and how they are divided. Splits are by patient, never by slide or patch."""

    slides: Path = Field(
        description="Folder with the slides (searched recursively), one slide, or a CSV with a slide a line: path, "
        "patient, node, centre, split, label, annotation, mpp"
    )
    annotations: Path | None = Field(
        None, description="Folder with annotations (ASAP XML, GeoJSON, mask TIFF); default: beside the slides"
    )
    stages: Path | None = Field(None, description="CAMELYON17 stage table (CSV); default: found below the slides")
    patients: tuple[str, ...] = Field((), description="only these patients; default: all")
    centres: tuple[Centre, ...] = Field((), description="only slides of the centres with these numbers; default: all")
    tumour_values: tuple[Annotated[int, Field(ge=1, le=255)], ...] | None = Field(
        None,
        min_length=1,
        description="values of mask TIFFs that are tumour, besides 255: [2] for the masks published with CAMELYON "
        "(1 is tissue), [1] for those that ASAP makes (2 is normal); needed for masks with other values than 0 and 255",
    )
    mpp: float | None = Field(
        None, gt=MPP_RANGE[0], lt=MPP_RANGE[1], description="µm per pixel for slides that do not state it"
    )
    validation_fraction: float = Field(
        0.2, ge=0, lt=1, description="share of the patients; with split = 'centre' or 'folds', of those not for testing"
    )
    test_fraction: float = Field(0.25, ge=0, lt=1, description="share of the patients; of split = 'patient' alone")
    split: Literal["patient", "centre", "folds", "lists"] = Field(
        "patient",
        description="patient: by the fractions; centre: test_centres for testing; folds: one of equal parts of the "
        "patients for testing; lists: as split_lists say. The last three look at no split in a table or a name",
    )
    test_centres: tuple[Centre, ...] = Field((), description="centre: numbers of the centres that are for testing")
    folds: int | None = Field(None, ge=2, le=100, description="folds: number of parts of the patients")
    fold: int | None = Field(
        None, ge=0, le=99, description="folds: number of the part for testing, from 0 to folds - 1"
    )
    split_lists: tuple[Path, ...] = Field(
        (), description="lists: CSVs of the original tool (db, path, number, split); other patients are left out"
    )

    @model_validator(mode="after")
    def _leave_some_for_training(self) -> CohortConfig:
        if self.validation_fraction + self.test_fraction >= 1:
            raise ValueError("validation_fraction + test_fraction must leave patients for training (below 1)")
        return self

    @model_validator(mode="after")
    def _split_has_what_it_needs(self) -> CohortConfig:
        needs = {"test_centres": "centre", "folds": "folds", "fold": "folds", "split_lists": "lists"}
        for name, split in needs.items():
            if (getattr(self, name) not in (None, ())) != (self.split == split):
                raise ValueError(f"{name} and split = {split!r} belong together")
        if self.fold is not None and self.folds is not None and self.fold >= self.folds:
            raise ValueError(f"fold must be from 0 to folds - 1 = {self.folds - 1}")
        return self
