from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tasks.inference.heatmap import score_grid
from tasks.inference.heatmap_figure import HeatmapPicture, draw_heatmap, heat_image
from tests.services.scored_slide import HEIGHT_PX, WIDTH_PX, grid_corners, lesion_fraction, make_scores

OUTLINE_RGB = (0xD0, 0, 0)


@pytest.fixture
def picture() -> HeatmapPicture:
    x, y = grid_corners()
    scores = make_scores(x, y, lesion_fraction(x, y))
    rows, columns = np.mgrid[: HEIGHT_PX // 2, : WIDTH_PX // 2]
    ring = np.hypot(rows - 90, columns - 100)
    tumour = (ring < 45) & (ring > 15)
    thumbnail = np.full((HEIGHT_PX // 2, WIDTH_PX // 2, 3), (220, 150, 190), np.uint8)
    return HeatmapPicture(scores.attributes, score_grid(scores), thumbnail, tumour, 0.987)


def outline_pixels(path: Path) -> int:
    with Image.open(path) as image:
        return int((np.asarray(image.convert("RGB")) == OUTLINE_RGB).all(-1).sum())


def test_only_analysed_pixels_are_coloured() -> None:
    thumbnail = np.random.default_rng(0).integers(0, 256, (20, 30, 3)).astype(np.uint8)
    probability = np.full((20, 30), np.nan, np.float32)
    probability[5:10, 5:10] = 0.0
    image = heat_image(thumbnail, probability)
    unseen = np.isnan(probability)
    assert (image[unseen].max(-1) == image[unseen].min(-1)).all()
    np.testing.assert_allclose(image[unseen][:, 0], thumbnail[unseen] @ [0.299, 0.587, 0.114], atol=0.51)
    assert (image[~unseen].max(-1) - image[~unseen].min(-1) > 10).all()


def test_a_higher_probability_is_brighter() -> None:
    grey = np.full((1, 101, 3), 180, np.uint8)
    image = heat_image(grey, np.linspace(0, 1, 101, dtype=np.float32)[None])
    luminance = image[0] @ [0.2126, 0.7152, 0.0722]
    assert (np.diff(luminance) > -1).all()
    assert luminance[-1] - luminance[0] > 80


def test_the_picture_is_wide_enough_for_a_report_and_shows_the_outline(picture: HeatmapPicture, tmp_path: Path) -> None:
    draw_heatmap(tmp_path / "with.png", picture)
    draw_heatmap(tmp_path / "without.png", replace(picture, tumour=None))
    draw_heatmap(tmp_path / "empty.png", replace(picture, tumour=np.zeros_like(picture.thumbnail[..., 0], bool)))
    with Image.open(tmp_path / "with.png") as image:
        assert image.width == 1200
        assert 300 < image.height < 1100
    assert outline_pixels(tmp_path / "with.png") > 500
    assert outline_pixels(tmp_path / "without.png") == 0
    assert outline_pixels(tmp_path / "empty.png") == 0
    # "no annotation" and "annotation without tumour" are not the same words.
    assert (tmp_path / "without.png").read_bytes() != (tmp_path / "empty.png").read_bytes()


def test_the_same_picture_gives_the_same_bytes(picture: HeatmapPicture, tmp_path: Path) -> None:
    draw_heatmap(tmp_path / "a.png", picture)
    draw_heatmap(tmp_path / "b.png", picture)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


@pytest.mark.parametrize(("width_px", "height_px"), [(98_000, 221_000), (221_000, 60_000)])
def test_tall_and_wide_slides_fit(picture: HeatmapPicture, tmp_path: Path, width_px: int, height_px: int) -> None:
    attributes = picture.attributes.model_copy(update={"slide_width_px": width_px, "slide_height_px": height_px})
    grid = replace(picture.grid, stride_level0_px=width_px / picture.grid.values.shape[1])
    thumbnail = np.full((height_px // 200, width_px // 200, 3), 230, np.uint8)
    draw_heatmap(tmp_path / "a.png", HeatmapPicture(attributes, grid, thumbnail, None, 0.5))
    with Image.open(tmp_path / "a.png") as image:
        assert image.width == 1200
        assert 200 < image.height < 1100
