from __future__ import annotations

from dataclasses import replace
from typing import Literal

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.config import PreprocessConfig
from tasks.patches.candidates import NORMAL, TUMOUR, UNKNOWN, Selection
from tasks.patches.sampling import SlideMasks, sample_grid, sample_random

Truth = Literal["tumour", "negative", "unknown"]
DOWNSAMPLE = 8.0


def blobs(rows: int, columns: int, seed: int, share: float = 0.6) -> np.ndarray:
    """Coarse random shapes, 0 and 1."""
    coarse = np.random.default_rng(seed).random((-(-rows // 4), -(-columns // 4))) < share
    return np.kron(coarse, np.ones((4, 4)))[:rows, :columns].astype(np.uint8)


def masks_of(rows: int = 40, columns: int = 50, seed: int = 0, downsample: float = DOWNSAMPLE) -> SlideMasks:
    tissue = blobs(rows, columns, seed)
    tumour = blobs(rows, columns, seed + 1000, 0.3)
    near = cv2.dilate(tumour, np.ones((3, 3), np.uint8)).astype(np.uint8)
    return SlideMasks(
        tissue, tumour, near, downsample, downsample, int(columns * downsample) - 3, int(rows * downsample) - 5
    )


def whole(shape: tuple[int, int], width_px: int, height_px: int) -> SlideMasks:
    """A slide that is all tissue without tumour."""
    none = np.zeros(shape, np.uint8)
    return SlideMasks(np.ones(shape, np.uint8), none, none, DOWNSAMPLE, DOWNSAMPLE, width_px, height_px)


def drawn(
    masks: SlideMasks, truth: Truth = "tumour", *, exhaustive: bool = True, seed: int = 0, **changes: float
) -> Selection:
    config = PreprocessConfig.model_validate({"patch_px": 24} | changes)
    return sample_random(masks, config, patch_level0_px=config.patch_px, truth=truth, exhaustive=exhaustive, seed=seed)


def gridded(masks: SlideMasks, truth: Truth = "tumour", **changes: float) -> Selection:
    config = PreprocessConfig.model_validate({"patch_px": 24, "grid_stride_px": 24} | changes)
    return sample_grid(
        masks,
        config,
        patch_level0_px=config.patch_px,
        stride_level0_px=config.grid_stride_px,
        truth=truth,
        exhaustive=True,
    )


def covered(mask: np.ndarray, x: float, y: float, side: float, downsample: float) -> float:
    """Share of a patch that a mask covers, pixel by pixel."""
    total = 0.0
    for row in range(mask.shape[0]):
        high = min((row + 1) * downsample, y + side) - max(row * downsample, y)
        if high <= 0:
            continue
        for column in range(mask.shape[1]):
            wide = min((column + 1) * downsample, x + side) - max(column * downsample, x)
            if wide > 0 and mask[row, column]:
                total += high * wide
    return total / side**2


@settings(deadline=None, max_examples=25)
@given(
    seed=st.integers(0, 10**6),
    rows=st.integers(1, 30),
    columns=st.integers(1, 30),
    downsample=st.sampled_from([1.0, 7.5, 8.0, 32.0026]),
    least=st.sampled_from([0.0, 0.25, 0.6, 1.0]),
    grid=st.booleans(),
)
def test_accepted_positions_lie_inside_and_have_the_tissue_that_is_asked(
    seed: int, rows: int, columns: int, downsample: float, least: float, grid: bool
) -> None:
    masks = masks_of(rows, columns, seed, downsample)
    selection = (
        gridded(masks, grid_min_tissue_fraction=least) if grid else drawn(masks, min_tissue_fraction=least, seed=seed)
    )
    found = selection.candidates
    for row in range(0, len(found), max(1, len(found) // 10)):
        x, y = int(found.x_level0_px[row]), int(found.y_level0_px[row])
        assert 0 <= x <= masks.width_level0_px - 24
        assert 0 <= y <= masks.height_level0_px - 24
        tissue, tumour = (covered(mask, x, y, 24, downsample) for mask in (masks.tissue, masks.tumour))
        assert tissue >= least - 1e-5
        assert found.tissue_fraction[row] == pytest.approx(tissue, abs=1e-5)
        assert found.tumour_fraction[row] == pytest.approx(tumour, abs=1e-5)
        near = covered(masks.near_tumour, x, y, 24, downsample)
        expected = TUMOUR if tumour >= 0.6 else NORMAL if near < 1e-5 else UNKNOWN
        assert min(abs(tumour - 0.6), abs(near - 1e-5)) < 1e-5 or found.label[row] == expected


def test_every_position_of_the_mask_is_tried_once_and_accounted_for() -> None:
    masks = replace(masks_of(), near_tumour=np.zeros((40, 50), np.uint8), tumour=np.zeros((40, 50), np.uint8))
    selection = drawn(masks)
    pixels = int(masks.tissue.sum())
    assert len(selection.candidates) + selection.rejected.total() == pixels
    found = drawn(masks, "negative", min_tissue_fraction=0.0).candidates
    centres = np.stack([found.y_level0_px + 12, found.x_level0_px + 12]) // int(DOWNSAMPLE)
    assert len(found) > 300
    assert masks.tissue[tuple(centres)].all()
    assert len(np.unique(centres, axis=1).T) == len(found), "no mask pixel is drawn twice"


def test_the_draw_follows_from_the_seed_alone() -> None:
    first, again, other = (drawn(masks_of(), seed=seed).candidates for seed in (5, 5, 6))
    np.random.seed(99)  # the global generator must not matter
    np.random.random(10)
    later = drawn(masks_of(), seed=5).candidates
    for same in (again, later):
        assert first.x_level0_px.tolist() == same.x_level0_px.tolist()
        assert first.y_level0_px.tolist() == same.y_level0_px.tolist()
    assert first.x_level0_px.tolist() != other.x_level0_px.tolist()


def test_how_many_are_wanted_does_not_change_what_is_drawn() -> None:
    few, many = drawn(masks_of(), tumour_patches=1, normal_patches=1), drawn(masks_of(), tumour_patches=500)
    assert few.candidates.x_level0_px.tolist() == many.candidates.x_level0_px.tolist()
    assert (few.wanted, many.wanted[TUMOUR]) == ({TUMOUR: 1, NORMAL: 1, UNKNOWN: 0}, 500)


def test_the_draw_is_spread_over_the_tissue() -> None:
    masks = whole((60, 60), 480, 480)
    found = drawn(masks, "negative").candidates
    first = np.stack([found.x_level0_px[:400], found.y_level0_px[:400]])
    counts = np.histogram2d(first[0], first[1], bins=3)[0]
    assert counts.sum() == 400
    assert counts.min() > 400 / 9 / 2


def test_only_what_is_known_is_drawn() -> None:
    masks = masks_of()
    assert set(drawn(masks, "tumour").candidates.label.tolist()) == {TUMOUR, NORMAL}
    assert set(drawn(masks, "tumour", exhaustive=False).candidates.label.tolist()) == {TUMOUR}
    unknown = drawn(masks, "unknown", exhaustive=False, normal_patches=7)
    assert set(unknown.candidates.label.tolist()) == {UNKNOWN}
    assert unknown.wanted[UNKNOWN] == 7


@pytest.mark.parametrize("shape", [(0, 0), (1, 1), (2, 30)])
def test_a_slide_smaller_than_a_patch_has_no_positions(shape: tuple[int, int]) -> None:
    masks = whole(shape, 8 * shape[1], 8 * shape[0])
    for selection in (drawn(masks), gridded(masks)):
        assert len(selection.candidates) == 0
    assert drawn(masks).rejected.total() == shape[0] * shape[1]


@pytest.mark.parametrize(("stride", "columns", "rows"), [(24, 20, 15), (8, 58, 43), (100, 5, 4), (457, 1, 1)])
def test_the_grid_covers_the_slide_exactly(stride: int, columns: int, rows: int) -> None:
    masks = whole((48, 60), 480, 360)
    found = gridded(masks, "negative", grid_stride_px=stride).candidates
    expected = [(x, y) for y in range(0, 360 - 24 + 1, stride) for x in range(0, 480 - 24 + 1, stride)]
    assert list(zip(found.x_level0_px.tolist(), found.y_level0_px.tolist(), strict=True)) == expected
    assert len(expected) == columns * rows


def test_a_grid_with_a_broken_stride_keeps_its_frame() -> None:
    masks = whole((50, 50), 400, 400)
    config = PreprocessConfig(patch_px=24, grid_stride_px=24)
    found = sample_grid(
        masks, config, patch_level0_px=24 * 4.0031, stride_level0_px=24 * 4.0031, truth="negative", exhaustive=True
    ).candidates
    assert sorted(set(found.x_level0_px.tolist())) == [0, 96, 192, 288]
