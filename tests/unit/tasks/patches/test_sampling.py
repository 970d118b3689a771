from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any, Literal

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
    masks: SlideMasks,
    truth: Truth = "tumour",
    *,
    exhaustive: bool = True,
    seed: int = 0,
    **changes: Any,  # noqa: ANN401  # configuration
) -> Selection:
    config = PreprocessConfig.model_validate({"patch_px": 24} | changes)
    return sample_random(masks, config, patch_level0_px=config.patch_px, truth=truth, exhaustive=exhaustive, seed=seed)


def gridded(masks: SlideMasks, truth: Truth = "tumour", *, seed: int = 0, **changes: Any) -> Selection:  # noqa: ANN401  # configuration
    config = PreprocessConfig.model_validate({"patch_px": 24, "grid_stride_px": 24} | changes)
    return sample_grid(
        masks,
        config,
        patch_level0_px=config.patch_px,
        stride_level0_px=config.grid_stride_px,
        truth=truth,
        exhaustive=True,
        seed=seed,
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


def positions(selection: Selection) -> list[tuple[int, int]]:
    found = selection.candidates
    return list(zip(found.x_level0_px.tolist(), found.y_level0_px.tolist(), strict=True))


@given(
    seed=st.integers(0, 10**6),
    downsample=st.sampled_from([1.0, 1.5, 7.5, 32.0026]),
    patch_px=st.sampled_from([16, 17, 33]),
)
def test_no_position_is_drawn_twice_whatever_the_scale(seed: int, downsample: float, patch_px: int) -> None:
    masks = masks_of(30, 30, seed, downsample)
    drawn_all = drawn(masks, seed=seed, patch_px=patch_px, min_tissue_fraction=0)
    found = positions(drawn_all)
    assert len(set(found)) == len(found)
    assert len(found) + drawn_all.rejected.total() == int(masks.tissue.sum())


def test_a_position_that_two_mask_pixels_share_is_drawn_once() -> None:
    # Mask pixels of 1.5 px: the borders between them lie in the middle of pixels.
    masks = replace(whole((400, 400), 600, 600), downsample_x=1.5, downsample_y=1.5)
    selection = drawn(masks, "negative")
    assert selection.rejected["drawn already"] > 0
    assert len(set(positions(selection))) == len(selection.candidates)


BORDERS = st.lists(st.floats(0, 100, exclude_min=True, exclude_max=True), unique=True, max_size=12).map(sorted)


@given(seed=st.integers(0, 10**6), inner=BORDERS, grid=st.booleans())
def test_windows_are_disjoint_and_together_the_whole(seed: int, inner: list[float], grid: bool) -> None:
    masks = masks_of(20, 25, seed)

    def sampled(*window: float) -> Selection:
        return gridded(masks, window_percent=window) if grid else drawn(masks, seed=seed, window_percent=window)

    whole_ = sampled(0, 100)
    windows = [sampled(*window) for window in pairwise([0, *inner, 100])]
    assert [place for window in windows for place in positions(window)] == positions(whole_)
    tried = len(whole_.candidates) + whole_.rejected.total()
    assert all(len(window.candidates) + window.rejected.total() == tried for window in windows)


@pytest.mark.parametrize("grid", [False, True])
def test_ten_windows_of_ten_percent_share_the_work_evenly(grid: bool) -> None:
    masks = masks_of(60, 60)
    counts = []
    for first in range(0, 100, 10):
        window = (first, first + 10)
        selection = gridded(masks, window_percent=window) if grid else drawn(masks, window_percent=window)
        counts.append(len(selection.candidates))
        assert selection.rejected["in another window"] > 0
    assert max(counts) - min(counts) <= 1
    assert min(counts) > 5


def test_each_window_has_its_own_numbers_of_patches() -> None:
    tenth = drawn(masks_of(), window_percent=(90, 100), tumour_patches=7, normal_patches=9)
    assert (tenth.wanted[TUMOUR], tenth.wanted[NORMAL]) == (7, 9)


@given(
    seed=st.integers(0, 10**6),
    size=st.tuples(st.integers(1, 200), st.integers(1, 200)),
    stride=st.sampled_from([8.0, 24.0, 40.0, 24.018600000000003, 8.5]),
    jitter=st.sampled_from([0.001, 0.3, 0.5, 1.0]),
    patch_px=st.sampled_from([24.0, 24.0186]),
)
def test_jitter_moves_each_position_within_its_stride_and_the_slide(
    seed: int, size: tuple[int, int], stride: float, jitter: float, patch_px: float
) -> None:
    width, height = size
    masks = whole((26, 26), width, height)

    def sampled(share: float, of: int) -> list[tuple[int, int]]:
        config = PreprocessConfig(patch_px=24, grid_jitter=share, grid_min_tissue_fraction=0)
        selection = sample_grid(
            masks,
            config,
            patch_level0_px=patch_px,
            stride_level0_px=stride,
            truth="negative",
            exhaustive=True,
            seed=of,
        )
        return positions(selection)

    plain, moved = sampled(0, seed), sampled(jitter, seed)
    assert len(moved) == len(plain)
    assert len(set(moved)) == len(moved), "without replacement"
    assert moved == sampled(jitter, seed)
    for (x, y), (x_moved, y_moved) in zip(plain, moved, strict=True):
        assert 0 <= x_moved - x <= max(0, np.ceil(stride * jitter) - 1)
        assert 0 <= y_moved - y <= max(0, np.ceil(stride * jitter) - 1)
        assert x_moved + patch_px <= width
        assert y_moved + patch_px <= height


def test_full_jitter_reaches_the_whole_stride_and_depends_on_the_seed() -> None:
    masks = whole((100, 100), 800, 800)
    plain, first, other = (
        np.array(positions(gridded(masks, "negative", seed=seed, grid_jitter=jitter)))
        for seed, jitter in ((0, 0.0), (1, 1.0), (2, 1.0))
    )
    offsets = (first - plain).ravel()
    assert (offsets.min(), offsets.max()) == (0, 23)
    assert np.unique(offsets).tolist() == list(range(24))
    assert (first != other).mean() > 0.9


def test_balanced_slides_want_no_more_of_a_class_than_there_is_of_the_other() -> None:
    masks = masks_of()
    plain = drawn(masks)
    tumour, normal = (int((plain.candidates.label == value).sum()) for value in (TUMOUR, NORMAL))
    assert 0 < normal < tumour
    even = drawn(masks, balanced=True, tumour_patches=10**6, normal_patches=10**6)
    assert positions(even) == positions(plain)
    assert (even.wanted[TUMOUR], even.wanted[NORMAL], even.balanced) == (normal, normal, True)
    few = drawn(masks, balanced=True, tumour_patches=10**6, normal_patches=3)
    assert (few.wanted[TUMOUR], few.wanted[NORMAL]) == (3, 3)
    assert not plain.balanced


def test_a_balanced_slide_whose_lesion_gives_no_patch_gives_no_normal_one() -> None:
    masks = replace(masks_of(), tumour=np.zeros((40, 50), np.uint8))
    assert drawn(masks, balanced=True).wanted == {TUMOUR: 0, NORMAL: 0, UNKNOWN: 0}


@pytest.mark.parametrize(("truth", "exhaustive"), [("negative", True), ("tumour", False), ("unknown", False)])
def test_slides_that_can_have_one_class_only_are_not_balanced(truth: Truth, exhaustive: bool) -> None:
    plain, even = (drawn(masks_of(), truth, exhaustive=exhaustive, balanced=value) for value in (False, True))
    assert even.wanted == plain.wanted
    assert positions(even) == positions(plain)
    assert not even.balanced
