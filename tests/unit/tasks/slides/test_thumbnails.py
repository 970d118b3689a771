from __future__ import annotations

from pathlib import Path

import numpy as np

from tasks.slides.reader import open_slide
from tasks.slides.thumbnails import TUMOUR_COLOUR, draw_outline, thumbnail


def test_a_thumbnail_keeps_shape_and_colours(real_data: Path) -> None:
    with open_slide(real_data / "mini_camelyon" / "patient_004_node_4.tif") as slide:
        picture = thumbnail(slide, 300)
        overview = slide.read_overview(8.0).rgb
        large = thumbnail(slide, 100_000_000)
    assert picture.shape == (250, 300, 3)
    assert np.abs(picture.mean(axis=(0, 1)) - overview.mean(axis=(0, 1))).max() < 2
    assert large.shape == (5120, 6144, 3), "never larger than the slide"


def test_an_outline_is_drawn_where_the_mask_ends() -> None:
    picture = np.full((100, 200, 3), 240, np.uint8)
    mask = np.zeros((10, 20), np.uint8)
    mask[3:7, 5:15] = 1
    drawn = draw_outline(picture, mask, TUMOUR_COLOUR)
    changed = (drawn != picture).any(axis=2)
    assert (picture == 240).all()
    assert changed[30, 100]
    assert not changed[50, 100]
    assert not changed[10, 100]
    assert 400 < changed.sum() < 1500
