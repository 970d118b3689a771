from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.config import TissueConfig
from tasks.slides.reader import open_slide
from tasks.slides.tissue import TissueMask, _without_small_holes, box_fraction, tissue_mask

GLASS = (243, 241, 243)
TISSUE = (190, 120, 175)
MPP = 8.0


def slide(height: int = 100, width: int = 140, colour: tuple[int, int, int] = GLASS) -> np.ndarray:
    noise = np.random.default_rng(0).normal(0, 2, (height, width, 3))
    return np.clip(np.array(colour) + noise, 0, 254).astype(np.uint8)


def with_tissue(picture: np.ndarray) -> np.ndarray:
    picture[30:70, 40:100] = slide(40, 60, TISSUE)
    return picture


def found(picture: np.ndarray, **settings: Any) -> TissueMask:  # noqa: ANN401  # fields of the configuration
    return tissue_mask(picture, TissueConfig(**settings), MPP)


both_methods = pytest.mark.parametrize("method", ["otsu", "hsv"])


@both_methods
def test_tissue_on_glass(method: str) -> None:
    mask = found(with_tissue(slide()), method=method)
    assert mask.mask.dtype == np.uint8
    assert set(np.unique(mask.mask)) == {0, 1}
    # A median rounds the corners.
    assert mask.mask[32:68, 42:98].all()
    assert mask.fraction == pytest.approx(40 * 60 / 14000, abs=16 / 14000 if method == "hsv" else 0)


@both_methods
def test_glass_alone_is_empty_and_no_error(method: str) -> None:
    for colour in (GLASS, (255, 255, 255), (200, 200, 200), (236, 232, 225)):
        assert found(slide(colour=colour), method=method).fraction == 0
    assert found(np.full((50, 50, 3), 255, np.uint8), method=method).fraction == 0
    assert found(np.zeros((50, 50, 3), np.uint8), method=method).fraction == 0


@both_methods
@pytest.mark.parametrize("colour", [TISSUE, (120, 60, 140), (225, 150, 190)])
def test_tissue_alone_is_full(colour: tuple[int, int, int], method: str) -> None:
    picture = slide(colour=colour)
    assert found(picture, method=method).fraction == 1
    picture[:, ::3] = np.clip(picture[:, ::3].astype(int) - 40, 0, 255)
    assert found(picture, method=method).fraction == 1
    # Two stains, no glass.
    picture[:, 70:] = slide(100, 70, (120, 60, 140))
    assert found(picture, method=method).fraction == 1


def test_saturated_and_unscanned_pixels_do_not_move_the_threshold() -> None:
    plain = found(with_tissue(slide()))
    picture = with_tissue(slide(200, 140))
    picture[100:150] = 255
    picture[150:] = 0
    mask = found(picture)
    assert abs(mask.threshold - plain.threshold) <= 1
    assert (mask.mask[:100] == plain.mask).all()
    assert not mask.mask[100:].any()


INKS = [(28, 48, 150), (20, 110, 70), (32, 30, 36), (60, 90, 200)]


@both_methods
@pytest.mark.parametrize("ink", INKS)
def test_pen_marks_are_no_tissue(ink: tuple[int, int, int], method: str) -> None:
    picture = with_tissue(slide())
    cv2.line(picture, (5, 12), (130, 18), ink, 6, cv2.LINE_AA)
    mask = found(picture, method=method)
    assert not mask.mask[:28].any()
    assert mask.mask[32:68, 42:98].all()


@both_methods
@pytest.mark.parametrize("ink", INKS)
def test_ink_alone_is_no_tissue(ink: tuple[int, int, int], method: str) -> None:
    assert found(slide(colour=ink), method=method).fraction == 0
    picture = slide()
    cv2.circle(picture, (70, 50), 30, ink, 8, cv2.LINE_AA)
    assert found(picture, method=method).fraction == 0


def test_pale_tissue_that_is_as_light_as_glass_is_seen_by_its_colour() -> None:
    picture = slide()
    picture[30:70, 40:100] = slide(40, 60, (240, 205, 228))
    picture[80:95, 40:100] = slide(15, 60, (120, 60, 140))
    assert not found(picture).mask[32:68].any()
    assert not found(picture, method="hsv").mask[:28].any()
    alone = picture[:75]
    assert found(alone, method="hsv").mask[32:68, 42:98].all()


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


def with_hole(side: int, left: int = 60) -> np.ndarray:
    picture = slide()
    picture[20:80, 40:120] = slide(60, 80, TISSUE)
    picture[40 : 40 + side, left : left + side] = slide(side, side)
    return picture


@both_methods
def test_small_holes_are_filled_and_large_ones_are_not(method: str) -> None:
    # 12 pixels of 8 µm are 96 µm: a hole of 9,216 µm², less the corners that a median rounds.
    for limit, filled in ((0, False), (8000, False), (9300, True)):
        mask = found(with_hole(12), method=method, fill_holes_um2=limit).mask
        assert mask[43:49, 63:69].all() == filled
        assert mask[43:49, 63:69].any() == filled
        assert mask[22:38, 42:118].all()


def test_glass_at_the_border_of_the_picture_or_open_to_it_is_no_hole() -> None:
    picture = with_hole(12)
    picture[40:52, 60:] = slide(12, 80)
    assert not found(picture, fill_holes_um2=1e6).mask[43:49, 63:115].any()
    edge = slide(colour=TISSUE)
    edge[:10, 50:60] = slide(10, 10)
    assert not found(edge, fill_holes_um2=1e6).mask[:8, 52:58].any()


def test_ink_in_tissue_is_not_filled() -> None:
    picture = with_hole(4)
    cv2.circle(picture, (90, 50), 6, INKS[0], -1)
    mask = found(picture, fill_holes_um2=1e6).mask
    assert not mask[46:54, 86:94].any()
    assert mask[40:44, 60:64].all()


@given(st.lists(st.integers(0, 2**12 - 1), min_size=1, max_size=12), st.integers(0, 30))
def test_holes_are_what_cannot_be_left_without_crossing_tissue(rows: list[int], smallest_px: int) -> None:
    mask = np.array([[row >> column & 1 for column in range(12)] for row in rows], bool)
    filled = _without_small_holes(mask, smallest_px)
    seen = mask.copy()
    expected = mask.copy()
    for start in zip(*np.nonzero(~mask), strict=True):
        if seen[start]:
            continue
        seen[start] = True
        hole, front, leaves = [], [start], False
        while front:
            i, j = front.pop()
            hole.append((i, j))
            for k, m in ((i - 1, j), (i + 1, j), (i, j - 1), (i, j + 1)):
                if not (0 <= k < mask.shape[0] and 0 <= m < mask.shape[1]):
                    leaves = True
                elif not seen[k, m]:
                    seen[k, m] = True
                    front.append((k, m))
        if not leaves and len(hole) < smallest_px:
            expected[tuple(np.transpose(hole))] = True
    assert (filled == expected).all()


@both_methods
def test_the_real_mini_slide(real_data: Path, method: str) -> None:
    with open_slide(real_data / "mini_camelyon" / "patient_004_node_4.tif") as reader:
        overview = reader.read_overview(8.0)
    mask = tissue_mask(overview.rgb, TissueConfig.model_validate({"method": method}), overview.um_per_px).mask
    assert not mask[:10].any(), "the pen mark"
    assert not mask[:, :4].any(), "the black border"
    assert mask[60, 60]
    assert 0.25 < mask.mean() < 0.4


@both_methods
def test_a_real_slide_with_ink_at_the_margin(real_data: Path, method: str) -> None:
    with open_slide(real_data / "slides" / "CMU-1-Small-Region.svs") as reader:
        overview = reader.read_overview(8.0)
    mask = tissue_mask(overview.rgb, TissueConfig.model_validate({"method": method}), overview.um_per_px).mask
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
