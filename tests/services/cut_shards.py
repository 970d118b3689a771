"""Shards that are cut out of a slide, in each encoding."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np

from tasks.config import Encoding, PreprocessConfig
from tasks.patches.candidates import Candidates, Selection
from tasks.patches.extract import extract_patches
from tasks.slides.reader import open_slide
from tests.services.jpeg_slides import TILE_PX
from tests.services.plain_shards import plain_attributes

SIDE_PX = 48


def on_a_grid(stride_px: int = SIDE_PX, first_px: int = 0) -> Selection:
    """Positions all over a slide of 8 x 8 tiles; each has its own fractions."""
    steps = np.arange(first_px, 8 * TILE_PX - SIDE_PX + 1, stride_px)
    x, y = np.meshgrid(steps, steps)
    count = x.size
    share = np.linspace(0, 1, count, dtype=np.float32)
    label = (np.arange(count) % 2).astype(np.int8)
    return Selection(Candidates(x.ravel(), y.ravel(), share, share, label), {}, Counter())


def cut(slide: Path, path: Path, encoding: Encoding, selection: Selection, **facts: object) -> Path:
    """Cut patches out of a slide as Layer 1 does; `facts` are attributes of the shard."""
    attributes = plain_attributes(patch_px=SIDE_PX, encoding=encoding, **facts)
    with open_slide(slide) as reader:
        extract_patches(reader, selection, attributes, PreprocessConfig(patch_px=SIDE_PX), path)
    return path
