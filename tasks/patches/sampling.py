"""Random and dense sampling (paper section 3.5). The result depends on the seed and the configuration alone."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from tasks.config import PreprocessConfig
from tasks.patches.candidates import NORMAL, TUMOUR, UNKNOWN, Candidates, Selection, label_of
from tasks.slides.tissue import box_fraction

# A share of an area that comes out of sums of floating point numbers; a single mask pixel is far more.
_NOTHING = 1e-5
# A large slide has millions of mask pixels with tissue; memory for so many positions would serve nobody.
_MOST_POSITIONS = 1 << 19
_POSITIONS_A_PATCH = 50


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
    tried in an order that `seed` fixes, at most half a million of them (or fifty for each wanted patch). Tumour and
    normal patches are drawn from annotated slides, normal ones from negative slides; a slide of which nothing is known
    gives patches without a label.

    With ``config.window_percent``, that part of the accepted positions is given, in the same order.

    With ``config.balanced``, a slide whose annotation is exhaustive gives as many normal as tumour patches: none,
    if no patch of it is tumour. A slide that can have one class only gives what is wanted of that class.
    """
    random = np.random.default_rng(seed)
    pixels = np.flatnonzero(masks.tissue)
    most = max(_MOST_POSITIONS, _POSITIONS_A_PATCH * (config.tumour_patches + config.normal_patches))
    rows, columns = np.divmod(random.permutation(pixels)[:most], masks.tissue.shape[1])
    inside = random.random((2, len(rows)))
    x = np.floor((columns + inside[0]) * masks.downsample_x - patch_level0_px / 2).astype(np.int64)
    y = np.floor((rows + inside[1]) * masks.downsample_y - patch_level0_px / 2).astype(np.int64)
    wanted = {TUMOUR: config.tumour_patches, NORMAL: config.normal_patches, UNKNOWN: 0}
    if truth == "unknown":
        wanted[UNKNOWN] = config.normal_patches
    selection = _select(
        masks, x, y, config, patch_level0_px, truth, exhaustive, min_tissue_fraction=config.min_tissue_fraction
    )
    unlabelled = (selection.candidates.label == UNKNOWN) & (wanted[UNKNOWN] == 0)
    rejected = selection.rejected + Counter({"tumour border or not annotated": int(unlabelled.sum())})
    drawn = _window(_without_repeats(Selection(selection.candidates.take(~unlabelled), wanted, +rejected)), config)
    return _balanced(drawn) if config.balanced and truth == "tumour" and exhaustive else drawn


def sample_grid(
    masks: SlideMasks,
    config: PreprocessConfig,
    *,
    patch_level0_px: float,
    stride_level0_px: float,
    truth: Literal["tumour", "negative", "unknown"],
    exhaustive: bool,
    seed: int = 0,
) -> Selection:
    """Cover the tissue densely: a sliding window with a fixed stride, row by row.

    With ``config.grid_jitter``, each position is moved right and down at random, as `seed` fixes: never as far as
    the next position of the grid, and never out of the slide.
    """
    x = _steps(masks.width_level0_px, patch_level0_px, stride_level0_px)
    y = _steps(masks.height_level0_px, patch_level0_px, stride_level0_px)
    x_moved, y_moved = np.tile(x, len(y)), np.repeat(y, len(x))
    if config.grid_jitter:
        share = np.random.default_rng(seed).random((2, len(x_moved))) * config.grid_jitter
        width = _room(x, masks.width_level0_px, patch_level0_px, stride_level0_px)
        height = _room(y, masks.height_level0_px, patch_level0_px, stride_level0_px)
        x_moved = x_moved + np.floor(share[0] * np.tile(width, len(y))).astype(np.int64)
        y_moved = y_moved + np.floor(share[1] * np.repeat(height, len(x))).astype(np.int64)
    selection = _select(
        masks,
        x_moved,
        y_moved,
        config,
        patch_level0_px,
        truth,
        exhaustive,
        min_tissue_fraction=config.grid_min_tissue_fraction,
    )
    return _window(selection, config)


def grid_shape(width_px: int, height_px: int, patch_px: float, stride_px: float) -> tuple[int, int]:
    """Count the rows and the columns of the positions of a dense grid; all lengths in pixels of level 0."""
    return len(_steps(height_px, patch_px, stride_px)), len(_steps(width_px, patch_px, stride_px))


def _steps(size_px: int, patch_px: float, stride_px: float) -> NDArray[np.int64]:
    count = int((size_px - patch_px) // stride_px) + 1 if size_px >= patch_px else 0
    return np.round(np.arange(count) * stride_px).astype(np.int64)


def _room(steps: NDArray[np.int64], size_px: int, patch_px: float, stride_px: float) -> NDArray[np.int64]:
    """Give how many pixels each step has for itself: up to the next one, and to where a patch leaves the slide."""
    ends = np.append(steps[1:], round(len(steps) * stride_px))
    room: NDArray[np.int64] = np.minimum(ends, int(size_px - patch_px) + 1) - steps
    return np.maximum(room, 1)


def _without_repeats(selection: Selection) -> Selection:
    """Drop positions that were drawn already: where mask pixels are no whole pixels of level 0, two can be one."""
    found = selection.candidates
    place = found.y_level0_px * (found.x_level0_px.max(initial=0) + 1) + found.x_level0_px
    _, first = np.unique(place, return_index=True)
    repeats = Counter({"drawn already": len(found) - len(first)})
    return replace(selection, candidates=found.take(np.sort(first)), rejected=+(selection.rejected + repeats))


def _window(selection: Selection, config: PreprocessConfig) -> Selection:
    """Keep a percentage of the candidates (the job arrays of the paper), so that windows share none and lose none."""
    count = len(selection.candidates)
    first, last = (int(count * percent / 100) for percent in config.window_percent)
    others = Counter({"in another window": count - (last - first)})
    return replace(
        selection,
        candidates=selection.candidates.take(np.arange(first, last)),
        rejected=+(selection.rejected + others),
    )


def _balanced(selection: Selection) -> Selection:
    """Want no more of a class than there can be of the other."""
    label, wanted = selection.candidates.label, selection.wanted
    most = min(min(wanted[value], int((label == value).sum())) for value in (TUMOUR, NORMAL))
    return replace(selection, wanted=wanted | {TUMOUR: most, NORMAL: most}, balanced=True)


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
