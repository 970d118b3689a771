"""The slide that Layer 1 is measured on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tasks.slides.synthetic.config import SynthConfig
from tasks.slides.synthetic.histology import draw_histology
from tasks.slides.synthetic.plan import plan_cohort
from tasks.slides.synthetic.pyramid import TILE_PX, write_pyramid

SIDE_PX = 40_000
TISSUE_SIDE_PX = 60 * TILE_PX
"""The drawn square: half of it is tissue, which is about 30 % of the slide."""
CORNER_PX = 9 * TILE_PX


def write_benchmark_slide(path: Path, seed: int = 0) -> None:
    """Write the slide: drawn tissue in a square, glass around it; the same seed gives the same bytes."""
    config = tissue_of(TISSUE_SIDE_PX, seed)
    drawn = draw_histology(np.random.default_rng(seed), plan_cohort(config)[0], config)

    def draw(x: int, y: int, width: int, height: int) -> NDArray[np.uint8]:
        inside = min(x, y) >= CORNER_PX and max(x, y) < CORNER_PX + TISSUE_SIDE_PX
        return drawn.render(x - CORNER_PX if inside else 0, y - CORNER_PX if inside else 0, width, height)

    write_pyramid(path, draw, SIDE_PX, SIDE_PX, config.mpp)


def write_tissue_slide(path: Path, side_px: int, seed: int = 0) -> None:
    """Write a smaller slide that is all drawn square."""
    config = tissue_of(side_px, seed)
    drawn = draw_histology(np.random.default_rng(seed), plan_cohort(config)[0], config)
    write_pyramid(path, drawn.render, side_px, side_px, config.mpp)


def tissue_of(side_px: int, seed: int) -> SynthConfig:
    """Give the settings of one slide with tumour."""
    return SynthConfig(slides=1, centres=1, width_px=side_px, height_px=side_px, negative_fraction=0, seed=seed)
