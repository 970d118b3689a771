from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from tasks.slides.reader import open_slide
from tasks.slides.synthetic.pyramid import write_pyramid


def scene(width: int, height: int) -> np.ndarray:
    """A smooth picture, which JPEG keeps nearly unchanged."""
    y, x = np.mgrid[:height, :width]
    channels = [128 + 100 * np.sin(x / 90), 128 + 100 * np.cos(y / 70), 128 + 60 * np.sin((x + y) / 150)]
    return np.stack(channels, axis=2).astype(np.uint8)


@pytest.mark.parametrize(("width", "height"), [(2048, 2048), (2500, 1700), (1100, 3001), (600, 700)])
def test_every_level_is_the_average_of_the_one_above(tmp_path: Path, width: int, height: int) -> None:
    picture = scene(width, height)
    path = tmp_path / "slide.tif"
    write_pyramid(path, lambda x, y, wide, high: picture[y : y + high, x : x + wide], width, height, 0.25)
    with open_slide(path) as slide:
        assert slide.mpp == pytest.approx(0.25, rel=1e-6)
        assert slide.dimensions_px == (width, height)
        assert max(slide.level_dimensions_px[-1]) <= 1024
        expected = picture
        for level, size in enumerate(slide.level_dimensions_px):
            assert size == (width >> level, height >> level)
            region = slide.read_region(0, 0, level, *size)
            assert np.abs(region.astype(int) - expected).mean() < 2
            rows, columns = expected.shape[0] // 2, expected.shape[1] // 2
            expected = cv2.resize(
                expected[: 2 * rows, : 2 * columns], (columns, rows), interpolation=cv2.INTER_AREA
            ).astype(np.uint8)


def test_the_same_pixels_give_the_same_bytes(tmp_path: Path) -> None:
    picture = scene(1200, 1200)
    for name in ("a.tif", "b.tif"):
        write_pyramid(tmp_path / name, lambda x, y, wide, high: picture[y : y + high, x : x + wide], 1200, 1200, 0.5)
    assert (tmp_path / "a.tif").read_bytes() == (tmp_path / "b.tif").read_bytes()


def test_a_slide_that_cannot_be_drawn_leaves_no_file(tmp_path: Path) -> None:
    def draw(x: int, y: int, width: int, height: int) -> np.ndarray:
        if y:
            raise RuntimeError("no more ink")
        return np.zeros((height, width, 3), np.uint8)

    with pytest.raises(RuntimeError, match="no more ink"):
        write_pyramid(tmp_path / "a.tif", draw, 1024, 1024, 0.5)
    assert list(tmp_path.iterdir()) == []
