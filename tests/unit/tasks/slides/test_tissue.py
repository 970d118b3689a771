from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.config import TissueConfig
from tasks.slides.reader import open_slide
from tasks.slides.tissue import TissueMask, box_fraction, tissue_mask

GLASS = (243, 241, 243)
TISSUE = (190, 120, 175)
MPP = 8.0


def slide(height: int = 100, width: int = 140, colour: tuple[int, int, int] = GLASS) -> np.ndarray:
    noise = np.random.default_rng(0).normal(0, 2, (height, width, 3))
    return np.clip(np.array(colour) + noise, 0, 254).astype(np.uint8)


def with_tissue(picture: np.ndarray) -> np.ndarray:
    picture[30:70, 40:100] = slide(40, 60, TISSUE)
    return picture


def found(picture: np.ndarray, **settings: float) -> TissueMask:
    return tissue_mask(picture, TissueConfig(**settings), MPP)


def test_tissue_on_glass() -> None:
    mask = found(with_tissue(slide()))
    assert mask.mask.dtype == np.uint8
    assert set(np.unique(mask.mask)) == {0, 1}
    assert mask.mask[30:70, 40:100].all()
    assert mask.fraction == pytest.approx(40 * 60 / 14000)


def test_glass_alone_is_empty_and_no_error() -> None:
    for colour in (GLASS, (255, 255, 255), (200, 200, 200), (236, 232, 225)):
        assert found(slide(colour=colour)).fraction == 0
    assert found(np.full((50, 50, 3), 255, np.uint8)).fraction == 0
    assert found(np.zeros((50, 50, 3), np.uint8)).fraction == 0


@pytest.mark.parametrize("colour", [TISSUE, (120, 60, 140), (225, 150, 190)])
def test_tissue_alone_is_full(colour: tuple[int, int, int]) -> None:
    picture = slide(colour=colour)
    assert found(picture).fraction == 1
    picture[:, ::3] = np.clip(picture[:, ::3].astype(int) - 40, 0, 255)
    assert found(picture).fraction == 1


def test_saturated_and_unscanned_pixels_do_not_move_the_threshold() -> None:
    plain = found(with_tissue(slide()))
    picture = with_tissue(slide(200, 140))
    picture[100:150] = 255
    picture[150:] = 0
    mask = found(picture)
    assert abs(mask.threshold - plain.threshold) <= 1
    assert (mask.mask[:100] == plain.mask).all()
    assert not mask.mask[100:].any()


@pytest.mark.parametrize("ink", [(28, 48, 150), (20, 110, 70), (32, 30, 36), (60, 90, 200)])
def test_pen_marks_are_no_tissue(ink: tuple[int, int, int]) -> None:
    picture = with_tissue(slide())
    cv2.line(picture, (5, 12), (130, 18), ink, 6, cv2.LINE_AA)
    mask = found(picture)
    assert not mask.mask[:28].any()
    assert mask.mask[30:70, 40:100].all()


def test_black_borders_are_no_tissue() -> None:
    picture = with_tissue(slide())
    picture[:, :10] = 3
    picture[-12:] = 8
    picture[-13] = 120
    mask = found(picture)
    assert mask.fraction == pytest.approx(40 * 60 / 14000)


def test_narrow_regions_are_dropped() -> None:
    picture = slide()
    picture[10:60, 20:26] = TISSUE
    picture[10:60, 60:80] = TISSUE
    mask = found(picture, min_region_um=100.0)
    assert not mask.mask[:, :40].any()
    assert mask.mask[10:60, 60:80].all()
    assert found(picture, min_region_um=0.0).mask[10:60, 20:26].all()


def test_the_real_mini_slide(real_data: Path) -> None:
    with open_slide(real_data / "mini_camelyon" / "patient_004_node_4.tif") as reader:
        overview = reader.read_overview(8.0)
    mask = tissue_mask(overview.rgb, TissueConfig(), overview.um_per_px).mask
    assert not mask[:10].any(), "the pen mark"
    assert not mask[:, :4].any(), "the black border"
    assert mask[60, 60]
    assert 0.25 < mask.mean() < 0.4


def test_a_real_slide_with_ink_at_the_margin(real_data: Path) -> None:
    with open_slide(real_data / "slides" / "CMU-1-Small-Region.svs") as reader:
        overview = reader.read_overview(8.0)
    mask = tissue_mask(overview.rgb, TissueConfig(), overview.um_per_px).mask
    assert 0.3 < mask.mean() < 0.45
    assert mask[165, 50]
    assert not mask[:, :3].any()


boxes = st.tuples(st.floats(-6, 30), st.floats(-6, 30), st.floats(0.05, 20), st.floats(0.05, 20))


@given(boxes, st.integers(0, 20))
def test_box_fraction_is_the_exact_area(box: tuple[float, float, float, float], seed: int) -> None:
    mask = (np.random.default_rng(seed).uniform(size=(17, 23)) < 0.5).astype(np.uint8)
    x, y, width, height = box
    rows, columns = np.arange(17), np.arange(23)
    across = np.clip(np.minimum(columns + 1, x + width) - np.maximum(columns, x), 0, None)
    down = np.clip(np.minimum(rows + 1, y + height) - np.maximum(rows, y), 0, None)
    expected = float(down @ mask @ across) / (width * height)
    assert box_fraction(mask, np.array([x]), np.array([y]), width, height)[0] == pytest.approx(expected, abs=1e-6)


def test_box_fraction_takes_many_boxes() -> None:
    mask = np.zeros((10, 10), np.uint8)
    mask[2:4, 2:4] = 1
    x, y = np.array([2.0, 2.5, 2.0, 0.0, 50.0]), np.array([2.0, 2.5, 2.0, 0.0, 50.0])
    side = np.array([2.0, 1.0, 4.0, 10.0, 3.0])
    assert box_fraction(mask, x, y, side, side).tolist() == pytest.approx([1, 1, 0.25, 0.04, 0])


def test_a_mask_pixel_counts_one_and_not_255() -> None:
    # One pixel of tumour must not fill a patch: masks of 0 and 255 once did that.
    mask = np.zeros((8, 8), np.uint8)
    mask[3, 3] = 1
    assert box_fraction(mask, np.array([0.0]), np.array([0.0]), 8, 8)[0] == pytest.approx(1 / 64)
