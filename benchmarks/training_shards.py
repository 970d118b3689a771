"""The shards that training's input is measured on."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
from benchmark_slide import write_tissue_slide

from tasks.config import Encoding, PreprocessConfig, TissueConfig
from tasks.patches.attributes import ShardAttributes
from tasks.patches.candidates import Candidates, Selection
from tasks.patches.extract import extract_patches
from tasks.slides.reader import open_slide
from tasks.slides.tissue import box_fraction, tissue_mask

PATCH_PX, STRIDE_PX, SLIDE_PX, SLIDES = 224, 224, 12_288, 4
PARTS = 4
"""Shards a slide, so that a window has rows of many files."""
ENCODINGS: tuple[Encoding, ...] = ("raw", "jpeg", "tiles")


def make_shards(folder: Path) -> None:
    """Cut the shards, once a folder: ``SLIDE-PART.ENCODING.h5``, the classes drawn at random."""
    for number in range(SLIDES):
        slide = folder / f"slide-{number}.tif"
        if not slide.is_file():
            write_tissue_slide(slide, SLIDE_PX, seed=number)
        places = _tissue_places(slide)
        for part, chosen in enumerate(np.array_split(np.arange(len(places)), PARTS)):
            for encoding in ENCODINGS:
                path = folder / f"{number}-{part}.{encoding}.h5"
                if not path.is_file():
                    _cut(slide, places, chosen, encoding, path)
                path.read_bytes()


def _tissue_places(slide: Path) -> Candidates:
    with open_slide(slide) as reader:
        overview = reader.read_overview(8.0)
    mask = tissue_mask(overview.rgb, TissueConfig(), overview.um_per_px).mask
    steps = np.arange(0, SLIDE_PX - PATCH_PX + 1, STRIDE_PX)
    y, x = (values.ravel() for values in np.meshgrid(steps, steps, indexing="ij"))
    side = PATCH_PX / overview.downsample
    tissue = box_fraction(mask, x / overview.downsample, y / overview.downsample, side, side).astype(np.float32)
    kept = np.flatnonzero(tissue >= 0.5)
    label = np.random.default_rng(0).integers(0, 2, len(kept)).astype(np.int8)
    return Candidates(x[kept], y[kept], tissue[kept], label.astype(np.float32), label)


def _cut(slide: Path, places: Candidates, chosen: np.ndarray, encoding: Encoding, path: Path) -> None:
    part = Candidates(
        places.x_level0_px[chosen],
        places.y_level0_px[chosen],
        places.tissue_fraction[chosen],
        places.tumour_fraction[chosen],
        places.label[chosen],
    )
    attributes = ShardAttributes(
        slide=path.stem, slide_digest="sha256:0", patient=path.stem, split="train", truth="tumour", level=0,
        level_downsample=1, mpp=0.25, patch_px=PATCH_PX, stride_px=STRIDE_PX, slide_width_px=SLIDE_PX,
        slide_height_px=SLIDE_PX, sampling="grid", seed=0, encoding=encoding, configuration="{}",
    )  # fmt: skip
    config = PreprocessConfig(patch_px=PATCH_PX, max_white_fraction=1.0)
    with open_slide(slide) as reader:
        extract_patches(reader, Selection(part, {}, Counter()), attributes, config, path)
