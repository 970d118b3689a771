"""What a synthetic cohort is made from."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, model_validator

from tasks.artifacts import Record

PATIENTS_A_CENTRE = 20
_WHOLE_SIZE_SIDE_UM = 5000.0
MACRO_UM = 2000.0
MICRO_UM = 200.0


class SynthConfig(Record):
    """A synthetic cohort; the same values give the same bytes."""

    slides: int = Field(12, ge=1, le=500)
    centres: int = Field(3, ge=1, le=5, description="medical centres, each with its own stain and scanner")
    nodes_per_patient: int = Field(2, ge=1, le=5, description="slides a patient")
    width_px: int = Field(4096, ge=512, le=200_000, description="level 0")
    height_px: int = Field(4096, ge=512, le=200_000, description="level 0")
    mpp: float = Field(0.25, ge=0.1, le=2.0, description="µm per pixel at level 0; of the patches where given")
    negative_fraction: float = Field(0.4, ge=0, le=1, description="share of the slides without tumour")
    pixels: Path | None = Field(
        None, description="real patches: PCam HDF5 pairs (*_x.h5, *_y.h5) or folders normal/ and tumor/"
    )
    seed: int = Field(0, ge=0, le=2**31 - 1)

    @model_validator(mode="after")
    def _fit_the_numbering(self) -> SynthConfig:
        # centre = patient // 20, as in CAMELYON17
        if self.slides > self.centres * PATIENTS_A_CENTRE * self.nodes_per_patient:
            raise ValueError(
                f"{self.centres} centres hold {self.centres * PATIENTS_A_CENTRE * self.nodes_per_patient} slides "
                f"({PATIENTS_A_CENTRE} patients a centre): raise centres or nodes_per_patient"
            )
        return self

    @property
    def size_scale(self) -> float:
        """By how much lesions, and the sizes that divide their classes, are smaller than in patients.

        1 where a slide has room for a macro-metastasis (2 mm); small slides hold proportionally smaller ones.
        """
        side_um = min(self.width_px, self.height_px) * self.mpp
        return min(1.0, side_um / _WHOLE_SIZE_SIDE_UM)
