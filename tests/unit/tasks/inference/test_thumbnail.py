import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tasks.errors import InputError
from tasks.inference.thumbnail import read_thumbnail


@pytest.mark.parametrize("name", ["a.png", "a.jpg"])
def test_a_thumbnail_is_read_as_rgb(tmp_path: Path, name: str) -> None:
    Image.new("RGB", (320, 240), (200, 120, 160)).save(tmp_path / name)
    pixels = read_thumbnail(tmp_path / name, slide_width_px=6401, slide_height_px=4795)
    assert pixels.shape == (240, 320, 3)
    np.testing.assert_allclose(pixels.mean((0, 1)), (200, 120, 160), atol=3)


def test_a_large_thumbnail_is_made_smaller(tmp_path: Path) -> None:
    Image.new("RGB", (1500, 4000)).save(tmp_path / "a.png")
    pixels = read_thumbnail(tmp_path / "a.png", slide_width_px=15_000, slide_height_px=40_000)
    assert pixels.shape == (2048, 768, 3)


def test_the_thumbnail_of_another_slide_is_refused(tmp_path: Path) -> None:
    Image.new("RGB", (320, 240)).save(tmp_path / "a.png")
    with pytest.raises(InputError, match="not the proportions of the slide"):
        read_thumbnail(tmp_path / "a.png", slide_width_px=6400, slide_height_px=9600)


def test_a_damaged_or_missing_thumbnail_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    with pytest.raises(InputError, match="cannot be read"):
        read_thumbnail(path, slide_width_px=10, slide_height_px=10)
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (90, 90, 3)).astype(np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(InputError, match="cannot be read"):
        read_thumbnail(path, slide_width_px=90, slide_height_px=90)
    path.write_bytes(b"GIF89a" + bytes(50))
    with pytest.raises(InputError, match="cannot be read"):
        read_thumbnail(path, slide_width_px=90, slide_height_px=90)


def test_a_thumbnail_that_states_too_many_pixels_is_refused_undecoded(tmp_path: Path) -> None:
    chunk = b"IHDR" + struct.pack(">IIBBBBB", 200_000, 200_000, 8, 2, 0, 0, 0)
    start = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13)
    (tmp_path / "a.png").write_bytes(start + chunk + struct.pack(">I", zlib.crc32(chunk)))
    with pytest.raises(InputError, match="cannot be read as an image"):
        read_thumbnail(tmp_path / "a.png", slide_width_px=10, slide_height_px=10)
    Image.new("1", (9000, 9000)).save(tmp_path / "b.png")
    with pytest.raises(InputError, match="9000 x 9000 px are more than"):
        read_thumbnail(tmp_path / "b.png", slide_width_px=10, slide_height_px=10)
