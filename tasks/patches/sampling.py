"""Random and dense sampling (paper section 3.5). The result depends on the seed and the configuration alone."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from tasks.config import PreprocessConfig
from tasks.patches.candidates import NORMAL, TUMOUR, UNKNOWN, Candidates, Selection, label_of
from tasks.slides.tissue import box_fraction

# A share of an area that comes out of sums of floating point numbers; a single mask pixel is far more.
_NOTHING = 1e-5


@dataclass(frozen=True, slots=True)
class SlideMasks:
    """Tissue and tumour of one slide, in the frame of a low level.

    Attributes
    ----------
    tissue, tumour
        0/1 masks of the same shape, uint8.
    near_tumour
        The same for tumour with a margin of a mask pixel, within which its border is not known.
    downsample_x, downsample_y
        Level-0 pixels per mask pixel.
    width_level0_px, height_level0_px
        Size of the slide.
    """

    tissue: NDArray[np.uint8]
    tumour: NDArray[np.uint8]
    near_tumour: NDArray[np.uint8]
    downsample_x: float
    downsample_y: float
    width_level0_px: int
    height_level0_px: int


def sample_random(
    masks: SlideMasks,
    config: PreprocessConfig,
    *,
    patch_level0_px: float,
    truth: Literal["tumour", "negative", "unknown"],
    exhaustive: bool,
    seed: int,
) -> Selection:
    """Draw positions at random, without replacement, until every position of the mask was tried once.

    Each pixel of the tissue mask is one possible centre of a patch, moved inside the pixel at random; they are
    tried in an order that `seed` fixes. Tumour and normal patches are drawn from annotated slides, normal
    ones from negative slides; a slide of which nothing is known gives patches without a label.
    """
    random = np.random.default_rng(seed)
    rows, columns = np.nonzero(masks.tissue)
    order = random.permutation(len(rows))
    inside = random.random((2, len(rows)))
    x = np.floor((columns[order] + inside[0]) * masks.downsample_x - patch_level0_px / 2).astype(np.int64)
    y = np.floor((rows[order] + inside[1]) * masks.downsample_y - patch_level0_px / 2).astype(np.int64)
    wanted = {TUMOUR: config.tumour_patches, NORMAL: config.normal_patches, UNKNOWN: 0}
    if truth == "unknown":
        wanted[UNKNOWN] = config.normal_patches
    selection = _select(
        masks, x, y, config, patch_level0_px, truth, exhaustive, min_tissue_fraction=config.min_tissue_fraction
    )
    unlabelled = (selection.candidates.label == UNKNOWN) & (wanted[UNKNOWN] == 0)
    rejected = selection.rejected + Counter({"tumour border or not annotated": int(unlabelled.sum())})
    return Selection(selection.candidates.take(~unlabelled), wanted, +rejected)


def sample_grid(
    masks: SlideMasks,
    config: PreprocessConfig,
    *,
    patch_level0_px: float,
    stride_level0_px: float,
    truth: Literal["tumour", "negative", "unknown"],
    exhaustive: bool,
) -> Selection:
    """Cover the tissue densely: a sliding window with a fixed stride, row by row."""
    x = _steps(masks.width_level0_px, patch_level0_px, stride_level0_px)
    y = _steps(masks.height_level0_px, patch_level0_px, stride_level0_px)
    return _select(
        masks,
        np.tile(x, len(y)),
        np.repeat(y, len(x)),
        config,
        patch_level0_px,
        truth,
        exhaustive,
        min_tissue_fraction=config.grid_min_tissue_fraction,
    )


def _steps(size_px: int, patch_px: float, stride_px: float) -> NDArray[np.int64]:
    count = int((size_px - patch_px) // stride_px) + 1 if size_px >= patch_px else 0
    return np.round(np.arange(count) * stride_px).astype(np.int64)


def _select(
    masks: SlideMasks,
    x: NDArray[np.int64],
    y: NDArray[np.int64],
    config: PreprocessConfig,
    patch_level0_px: float,
    truth: Literal["tumour", "negative", "unknown"],
    exhaustive: bool,
    *,
    min_tissue_fraction: float,
) -> Selection:
    """Keep the positions inside the slide with enough tissue, in their order, and label them."""
    inside = (
        (x >= 0)
        & (y >= 0)
        & (x + patch_level0_px <= masks.width_level0_px)
        & (y + patch_level0_px <= masks.height_level0_px)
    )
    x, y = x[inside], y[inside]
    boxes = (
        x / masks.downsample_x,
        y / masks.downsample_y,
        patch_level0_px / masks.downsample_x,
        patch_level0_px / masks.downsample_y,
    )
    tissue = box_fraction(masks.tissue, *boxes).astype(np.float32)
    enough = tissue >= min_tissue_fraction
    tumour = box_fraction(masks.tumour, *boxes).astype(np.float32)
    near_tumour = box_fraction(masks.near_tumour, *boxes) > _NOTHING
    label = label_of(tumour, near_tumour, truth, exhaustive=exhaustive, min_tumour_fraction=config.min_tumour_fraction)
    rejected = Counter({"over the slide's edge": int((~inside).sum()), "too little tissue": int((~enough).sum())})
    return Selection(Candidates(x, y, tissue, tumour, label).take(enough), {}, +rejected)
