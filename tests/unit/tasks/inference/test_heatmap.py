import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.errors import InputError
from tasks.inference.heatmap import ScoreGrid, score_grid, upsample
from tests.services.scored_slide import (
    HEIGHT_PX,
    LESION_X_PX,
    LESION_Y_PX,
    PATCH_PX,
    WIDTH_PX,
    grid_corners,
    lesion_fraction,
    make_scores,
)


def test_a_value_belongs_to_the_centre_of_its_patch() -> None:
    grid = score_grid(make_scores(np.array([64, 96]), np.array([320, 352]), np.array([0.25, 0.75])))
    assert (grid.x_centre_level0_px, grid.y_centre_level0_px) == (64 + PATCH_PX / 2, 320 + PATCH_PX / 2)
    assert grid.stride_level0_px == PATCH_PX
    np.testing.assert_array_equal(grid.values, np.array([[0.25, np.nan], [np.nan, 0.75]], np.float32))


def test_the_highest_pixel_is_the_centre_of_the_only_high_patch() -> None:
    x, y = grid_corners()
    high = 107  # within the slide: at its edge the value holds to the border
    image = upsample(
        score_grid(make_scores(x, y, (np.arange(len(x)) == high).astype(float))), (HEIGHT_PX, WIDTH_PX), 1, 1
    )
    row, column = np.unravel_index(np.nanargmax(image), image.shape)
    # The centre of an even number of pixels is the corner of four.
    assert abs(column + 0.5 - (x[high] + PATCH_PX / 2)) <= 0.5
    assert abs(row + 0.5 - (y[high] + PATCH_PX / 2)) <= 0.5


@pytest.mark.parametrize("downsample", [1.0, 4.0, 7.3])
def test_the_thresholded_map_lies_on_the_lesion(downsample: float) -> None:
    x, y = grid_corners()
    grid = score_grid(make_scores(x, y, lesion_fraction(x, y)))
    shape = (int(HEIGHT_PX / downsample), int(WIDTH_PX / downsample))
    rows, columns = np.nonzero(upsample(grid, shape, downsample, downsample) > 0.5)
    assert abs((columns + 0.5).mean() * downsample - LESION_X_PX) < PATCH_PX / 4
    assert abs((rows + 0.5).mean() * downsample - LESION_Y_PX) < PATCH_PX / 4


def test_what_was_not_analysed_has_no_probability() -> None:
    x, y = grid_corners()
    image = upsample(score_grid(make_scores(x, y, np.ones(len(x)))), (HEIGHT_PX, WIDTH_PX), 1, 1)
    covered = np.zeros((HEIGHT_PX, WIDTH_PX), bool)
    for column, row in zip(x, y, strict=True):
        covered[row : row + PATCH_PX, column : column + PATCH_PX] = True
    np.testing.assert_array_equal(np.isfinite(image), covered)
    assert not covered.all()


@given(
    seen=st.lists(st.booleans(), min_size=30, max_size=30).filter(any),
    value=st.floats(0, 1, width=32),
    downsample=st.floats(3, 40),
)
def test_holes_never_pull_a_constant_map_up_or_down(seen: list[bool], value: float, downsample: float) -> None:
    values = np.where(np.array(seen).reshape(5, 6), np.float32(value), np.float32(np.nan))
    grid = ScoreGrid(values, 16.0, 16.0, 32.0)
    shape = (int(160 / downsample), int(192 / downsample))
    image = upsample(grid, shape, downsample, downsample)
    np.testing.assert_allclose(image[np.isfinite(image)], value, atol=1e-5)


def test_between_centres_the_map_is_linear() -> None:
    values = np.add.outer(0.1 * np.arange(5), 0.05 * np.arange(6)).astype(np.float32)
    image = upsample(ScoreGrid(values, 16.0, 16.0, 32.0), (160, 192), 1, 1)
    y, x = np.mgrid[16:144, 16:176] + 0.5
    np.testing.assert_allclose(image[16:144, 16:176], 0.1 * (y - 16) / 32 + 0.05 * (x - 16) / 32, atol=1e-5)


def test_a_stride_that_is_no_whole_number_finds_its_cells() -> None:
    # Levels of real slides are not always a power of two smaller (32.0026 is one of CAMELYON17).
    stride_px = 32.0026 * 7
    corners = np.round(np.arange(400) * stride_px).astype(np.int64)
    grid = score_grid(make_scores(corners, corners[::-1].copy(), np.linspace(0, 1, 400), stride_px=stride_px))
    assert grid.values.shape == (400, 400)
    np.testing.assert_allclose(np.diag(grid.values[::-1]), np.linspace(0, 1, 400), atol=1e-6)


@pytest.mark.parametrize(
    ("x", "y", "cause"),
    [
        ([0, 41], [0, 0], "do not lie on a grid"),
        ([32, 32], [64, 64], "two patches in one cell"),
        ([], [], "no patch to score"),
    ],
)
def test_patches_that_make_no_grid_are_refused(x: list[int], y: list[int], cause: str) -> None:
    scores = make_scores(np.array(x, np.int64), np.array(y, np.int64), np.zeros(len(x)))
    with pytest.raises(InputError, match=cause):
        score_grid(scores)
