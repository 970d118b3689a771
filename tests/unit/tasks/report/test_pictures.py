"""Pictures inside the page: what fits is copied, what does not is made smaller, what is broken is named."""

from __future__ import annotations

import base64
import io
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from tasks.errors import InputError
from tasks.report.pictures import ALL_PICTURES_BYTES, Picture, inline_picture, inline_pictures
from tests.services.sample_report import tissue


def embedded(picture: Picture) -> bytes:
    head, _, body = picture.address.partition(",")
    assert head in ("data:image/png;base64", "data:image/jpeg;base64")
    return base64.b64decode(body, validate=True)


def opened(picture: Picture) -> Image.Image:
    image = Image.open(io.BytesIO(embedded(picture)))
    assert image.size == (picture.width_px, picture.height_px)
    assert picture.address.startswith(f"data:image/{str(image.format).lower()};")
    return image


def save(path: Path, pixels: NDArray[np.uint8], compress_level: int = 6) -> Path:
    Image.fromarray(pixels).save(path, compress_level=compress_level)
    return path


@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_a_picture_that_fits_is_copied_byte_for_byte(tmp_path: Path, suffix: str) -> None:
    path = save(tmp_path / f"a.{suffix}", tissue(1, 90, 120))
    picture = inline_picture(path, 400, 1_000_000)
    assert embedded(picture) == path.read_bytes()
    assert (picture.width_px, picture.height_px, picture.original) == (120, 90, None)


def test_a_wide_picture_is_made_smaller_and_its_original_is_named_and_left(tmp_path: Path) -> None:
    path = save(tmp_path / "wide.png", tissue(2, 500, 2500))
    before = path.read_bytes()
    picture = inline_picture(path, 1000, 1_000_000)
    small = opened(picture)
    assert small.size == (1000, 200)
    assert picture.original == "wide.png, 2500 × 500 px"
    assert path.read_bytes() == before
    expected = np.asarray(Image.fromarray(tissue(2, 500, 2500)).resize((1000, 200)), float)
    assert np.abs(np.asarray(small, float) - expected).mean() < 4


def test_a_picture_of_too_many_bytes_keeps_its_shape_and_gets_below(tmp_path: Path) -> None:
    noise = np.random.default_rng(3).integers(0, 256, (700, 1400, 3), np.uint8)
    picture = inline_picture(save(tmp_path / "noise.png", noise), 1800, 200_000)
    assert len(embedded(picture)) <= 200_000
    assert 320 < picture.width_px < 1400
    assert opened(picture).width == pytest.approx(2 * opened(picture).height, abs=2)


def test_making_smaller_ends_at_a_width_that_can_still_be_read(tmp_path: Path) -> None:
    path = save(tmp_path / "a.png", tissue(4, 400, 900))
    assert inline_picture(path, 1800, 10).width_px == 320
    narrow = save(tmp_path / "narrow.png", tissue(4, 400, 100))
    assert inline_picture(narrow, 1800, 10).width_px == 100


def test_what_is_transparent_becomes_white_paper(tmp_path: Path) -> None:
    pixels = np.zeros((200, 1000, 4), np.uint8)
    picture = inline_picture(save(tmp_path / "clear.png", pixels), 500, 1_000_000)
    assert np.asarray(opened(picture)).min() > 250


def test_all_pictures_together_stay_below_their_limit(tmp_path: Path) -> None:
    noise = np.random.default_rng(5).integers(0, 256, (900, 1800, 3), np.uint8)
    encoded = save(tmp_path / "noise.png", noise, compress_level=0).read_bytes()
    assert 6 * len(encoded) > 2 * ALL_PICTURES_BYTES
    widest_px = {}
    for number in range(6):
        (tmp_path / f"{number}.png").write_bytes(encoded)
        widest_px[Path(f"{number}.png")] = 1800
    shown = inline_pictures(widest_px, tmp_path)
    pictures = [picture for picture in shown.values() if isinstance(picture, Picture)]
    total = sum(len(embedded(picture)) for picture in pictures)
    assert len(pictures) == 6
    assert ALL_PICTURES_BYTES / 2 < total <= ALL_PICTURES_BYTES + 6


@pytest.mark.parametrize("kind", ["missing", "text", "cut", "gif", "folder", "empty"])
def test_a_broken_picture_is_an_input_error_and_words_on_the_page(tmp_path: Path, kind: str) -> None:
    whole = save(tmp_path / "whole.png", tissue(6, 300, 300)).read_bytes()
    path = tmp_path / "picture.png"
    if kind == "gif":
        Image.new("L", (9, 9)).save(path, "GIF")
    elif kind == "folder":
        path.mkdir()
    elif kind != "missing":
        path.write_bytes({"text": b"no picture at all", "cut": whole[: len(whole) // 2], "empty": b""}[kind])
    with pytest.raises(InputError) as caught:
        inline_picture(path, 1000, 1_000_000)
    assert caught.value.remedy
    shown = inline_pictures({Path("picture.png"): 1000}, tmp_path)[Path("picture.png")]
    assert shown == f"picture.png {caught.value.cause}"
