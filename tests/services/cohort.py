"""Small synthetic cohorts for tests of what comes after the slides."""

from __future__ import annotations

from pathlib import Path

from tasks.slides.synthetic.cohort import CohortSummary, make_cohort
from tasks.slides.synthetic.config import SynthConfig


def small_cohort(
    folder: Path, *, slides: int = 4, centres: int = 2, side_px: int = 1536, mpp: float = 0.5, seed: int = 0
) -> CohortSummary:
    """Make a cohort of one-slide patients in a second or two.

    With the default size one slide in two has tumour, and lesions are large enough for patches of 96 pixels.
    """
    config = SynthConfig(
        slides=slides,
        centres=centres,
        nodes_per_patient=1,
        width_px=side_px,
        height_px=side_px,
        mpp=mpp,
        negative_fraction=0.5,
        seed=seed,
    )
    return make_cohort(folder, config)
