"""Jobs of Layer 1 for slides of a test."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tasks.cohort_config import CohortConfig
from tasks.config import PreprocessConfig
from tasks.patches.slide_job import SlideJob
from tasks.slides.cohort import find_slides

FEW: dict[str, Any] = {"patch_px": 64, "tumour_patches": 40, "normal_patches": 40, "grid_stride_px": 64}


def slide_jobs(slides: Path, root: Path, *, mpp: float | None = None, **changes: Any) -> dict[str, SlideJob]:  # noqa: ANN401  # fields of the configuration
    """Jobs for all slides of a folder by name, as test slides (sampled and dense), with few small patches."""
    return {
        record.name: SlideJob(
            record=record,
            split="test",
            config=PreprocessConfig.model_validate(FEW | changes),
            seed=3,
            mpp=mpp,
            root=root,
            folder=root / "run" / "patches",
        )
        for record in find_slides(CohortConfig(slides=slides, mpp=mpp))
    }
