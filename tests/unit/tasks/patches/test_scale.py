from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.config import PreprocessConfig
from tasks.errors import InputError
from tasks.patches.scale import corners_px, scale_of, scaled
from tasks.slides.reader import open_slide
from tasks.slides.synthetic.cohort import CohortSummary
from tasks.slides.tile_grid import TileGrid


@pytest.fixture
def slide(small_cohort: CohortSummary) -> Path:
    """2048 px at 0.5 µm, with a second level of 1024 px at 1 µm."""
    return small_cohort.folder / "images" / f"{small_cohort.slides[0].name}.tif"


@pytest.mark.parametrize(
    ("values", "level", "cut_px", "mpp"),
    [
        ({}, 0, 96, 0.5),
        ({"level": 1}, 1, 96, 1.0),
        ({"mpp": 0.5}, 0, 96, 0.5),
        ({"mpp": 0.495}, 0, 96, 0.5),
        ({"mpp": 0.75}, 0, 144, 0.75),
        ({"mpp": 1.0}, 1, 96, 1.0),
        ({"mpp": 1.5, "level": 0}, 1, 144, 1.5),
    ],
)
def test_the_nearest_finer_level_is_cut_and_scaled_down(
    slide: Path, values: dict[str, float], level: int, cut_px: int, mpp: float
) -> None:
    with open_slide(slide) as reader:
        scale = scale_of(reader, PreprocessConfig.model_validate({"patch_px": 96, **values}))
        assert (scale.level, scale.cut_px) == (level, cut_px)
        assert scale.mpp == pytest.approx(mpp)
        assert scale.cut_level0_px == cut_px * reader.level_downsamples[level]
        assert scale.stride_level0_px(96) == scale.cut_level0_px


@pytest.mark.parametrize(
    ("values", "cause", "remedy"),
    [
        ({"mpp": 0.25}, "0.5 µm per pixel at best", "preprocess.mpp"),
        ({"level": 5}, "has no level 5", "preprocess.level"),
    ],
)
def test_what_the_slide_does_not_have_is_the_users_error(
    slide: Path, values: dict[str, float], cause: str, remedy: str
) -> None:
    with open_slide(slide) as reader, pytest.raises(InputError, match=cause) as caught:
        scale_of(reader, PreprocessConfig.model_validate(values))
    assert caught.value.subject == str(slide)
    assert remedy in str(caught.value.remedy)


@given(
    size_px=st.integers(1000, 200_000),
    downsample=st.floats(1.0, 130.0),
    side_px=st.integers(1, 30),
    place=st.floats(0, 1),
)
def test_patches_inside_of_level_0_are_inside_of_every_level(
    size_px: int, downsample: float, side_px: int, place: float
) -> None:
    level_px = int(size_px // downsample)
    room = int(size_px - side_px * downsample)
    if room < 0 or level_px < side_px:
        return
    corner = np.array([0, int(place * room), room])
    x, y = corners_px(corner, corner, downsample, side_px, TileGrid(level_px, level_px, 64, 64))
    assert (x >= 0).all()
    assert (x + side_px <= level_px).all()
    assert (np.abs(x * downsample - corner) <= 1.5 * downsample).all()
    assert np.array_equal(x, y)


def test_scaling_averages_areas_and_leaves_the_right_size_alone() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (96, 96, 3)).astype(np.uint8)
    assert scaled(pixels, 96) is pixels
    half = scaled(pixels, 48)
    assert np.array_equal(half, cv2.resize(pixels, (48, 48), interpolation=cv2.INTER_AREA))
    means = pixels.reshape(48, 2, 48, 2, 3).mean(axis=(1, 3))
    assert np.abs(half - means).max() <= 0.5
