from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import openslide
import pytest
import tifffile

from tasks.config import PreprocessConfig
from tasks.errors import InputError
from tasks.patches.candidates import NORMAL, TUMOUR, Candidates, Selection
from tasks.patches.extract import Extraction, extract_patches
from tasks.patches.store import open_shard
from tasks.slides.reader import open_slide
from tests.services.plain_shards import plain_attributes

SIDE_PX = 32
CONFIG = PreprocessConfig(patch_px=SIDE_PX)


def picture() -> np.ndarray:
    """Pink noise, with a white and a black square of 96 pixels."""
    rgb = np.random.default_rng(0).integers(90, 180, (960, 960, 3)).astype(np.uint8)
    rgb[..., 1] //= 2
    rgb[:96, :96], rgb[:96, 96:192] = 255, 0
    return rgb


@pytest.fixture
def slide(tmp_path: Path) -> Path:
    """960 x 960 pixels in 100 tiles of 96, lossless; the first tile is white, the second black."""
    path = tmp_path / "slide.tif"
    tifffile.imwrite(
        path, picture(), tile=(96, 96), photometric="rgb", compression="zlib", metadata=None,
        resolution=(2e4, 2e4), resolutionunit="CENTIMETER",
    )  # fmt: skip
    return path


def with_broken_tiles(slide: Path, tiles: list[int]) -> Path:
    broken = slide.with_name("broken.tif")
    shutil.copy(slide, broken)
    with tifffile.TiffFile(slide) as file:
        places = [(file.pages[0].dataoffsets[tile], file.pages[0].databytecounts[tile]) for tile in tiles]
    with broken.open("r+b") as raw:
        for offset, count in places:
            raw.seek(offset)
            raw.write(b"\xff" * count)
    return broken


def in_rows(count: int, stride: int = 96) -> Selection:
    """Positions row by row, one a tile, alternating labels; no limit."""
    numbers = np.arange(count)
    x, y = (numbers % 10) * stride, (numbers // 10) * stride
    share = np.linspace(0, 1, count, dtype=np.float32)
    label = np.where(numbers % 2 == 0, NORMAL, TUMOUR).astype(np.int8)
    return Selection(Candidates(x, y, share, share[::-1], label), {}, Counter({"too little tissue": 3}))


def extract(slide: Path, selection: Selection, path: Path) -> Extraction:
    with open_slide(slide) as reader:
        return extract_patches(reader, selection, plain_attributes(patch_px=SIDE_PX), CONFIG, path)


def test_patches_are_the_slides_own_pixels_in_rgb(slide: Path, tmp_path: Path) -> None:
    extraction = extract(slide, in_rows(100), tmp_path / "a.h5")
    assert extraction.kept == {NORMAL: 49, TUMOUR: 49}
    assert extraction.rejected == {"too little tissue": 3, "too white": 1, "too black": 1}
    with open_shard(tmp_path / "a.h5") as shard, openslide.OpenSlide(slide) as plain:
        assert shard.rows == extraction.rows == 98
        pixels = shard.read(np.arange(98))
        for row, (x, y) in enumerate(zip(shard.x_level0_px.tolist(), shard.y_level0_px.tolist(), strict=True)):
            expected = np.asarray(plain.read_region((x, y), 0, (SIDE_PX, SIDE_PX)).convert("RGB"))
            assert np.array_equal(pixels[row], expected)
            assert np.array_equal(pixels[row], picture()[y : y + SIDE_PX, x : x + SIDE_PX])
        assert pixels[..., 1].mean() < pixels[..., 0].mean()
        # The last two have moved to the places of the white and the black one.
        share = np.linspace(0, 1, 100, dtype=np.float32)
        assert shard.tissue_fraction.tolist() == [*share[[98, 99]], *share[2:98]]
        assert shard.tumour_fraction.tolist() == [*share[[1, 0]], *share[::-1][2:98]]


def test_the_white_fraction_is_that_of_the_patch(slide: Path, tmp_path: Path) -> None:
    x = np.array([80, 84, 88])
    selection = Selection(
        Candidates(x, np.full(3, 200) * 0, np.ones(3, np.float32), np.zeros(3, np.float32), np.zeros(3, np.int8)),
        {},
        Counter(),
    )
    config = PreprocessConfig(patch_px=SIDE_PX, max_black_fraction=1)
    with open_slide(slide) as reader:
        extract_patches(reader, selection, plain_attributes(patch_px=SIDE_PX), config, tmp_path / "a.h5")
    with open_shard(tmp_path / "a.h5") as shard:
        assert shard.white_fraction.tolist() == [16 / 32, 12 / 32, 8 / 32]


def test_no_more_than_wanted_are_kept_the_first_ones_of_the_selection(slide: Path, tmp_path: Path) -> None:
    selection = in_rows(100)
    selection = Selection(selection.candidates, {TUMOUR: 3, NORMAL: 40}, Counter())
    extraction = extract(slide, selection, tmp_path / "a.h5")
    assert extraction.kept == {TUMOUR: 3, NORMAL: 40}
    with open_shard(tmp_path / "a.h5") as shard:
        kept = sorted(zip(shard.y_level0_px.tolist(), shard.x_level0_px.tolist(), shard.label.tolist(), strict=True))
        # The first normal position is white and the first tumour position black: the next ones take their places.
        assert kept == [
            (96 * (number // 10), 96 * (number % 10), NORMAL if number % 2 == 0 else TUMOUR)
            for number in sorted([*range(2, 82, 2), 3, 5, 7])
        ]


def test_a_few_broken_tiles_cost_their_patches_only(slide: Path, tmp_path: Path) -> None:
    broken = with_broken_tiles(slide, [2, 3, 4, 5, 6])
    extraction = extract(broken, in_rows(100), tmp_path / "a.h5")
    assert extraction.rejected["unreadable"] == 5
    assert extraction.rows == 93
    with open_shard(tmp_path / "a.h5") as shard:
        assert not set(range(192, 672, 96)) & set(shard.x_level0_px[shard.y_level0_px == 0].tolist())
        last = np.flatnonzero((shard.x_level0_px == 864) & (shard.y_level0_px == 864))
        assert np.array_equal(shard.read(last)[0], picture()[864:896, 864:896])


@pytest.mark.parametrize("tiles", [[2, 3, 4, 5, 6, 7], [94, 95, 96, 97, 98, 99], [2, 20, 40, 60, 80, 99]])
def test_more_than_one_in_twenty_fails_the_slide(slide: Path, tmp_path: Path, tiles: list[int]) -> None:
    broken = with_broken_tiles(slide, tiles)
    with pytest.raises(InputError, match=r"cannot be decoded at 6 of \d+ positions") as caught:
        extract(broken, in_rows(100), tmp_path / "a.h5")
    assert caught.value.subject == str(broken)
    assert not (tmp_path / "a.h5").exists()


def test_the_share_counts_every_position_that_was_tried(slide: Path, tmp_path: Path) -> None:
    # 5 of 100: the white and the black position were read as well, so they count among those that can be.
    assert extract(with_broken_tiles(slide, [10, 11, 12, 13, 14]), in_rows(100), tmp_path / "a.h5").rows == 93
    # One of ten is more than 5 %, and known to be so before the last ones are read.
    with pytest.raises(InputError, match="at 1 of 6 positions"):
        extract(with_broken_tiles(slide, [5]), in_rows(10), tmp_path / "b.h5")


def test_a_slide_that_cannot_be_read_at_all_is_given_up_early(slide: Path, tmp_path: Path) -> None:
    selection = in_rows(100, stride=9)
    broken = with_broken_tiles(slide, list(range(100)))
    with pytest.raises(InputError, match="at 6 of 6 positions"):
        extract(broken, selection, tmp_path / "a.h5")


def test_nothing_selected_is_an_empty_shard(slide: Path, tmp_path: Path) -> None:
    assert extract(slide, in_rows(0), tmp_path / "a.h5").rows == 0
    with open_shard(tmp_path / "a.h5") as shard:
        assert shard.rows == 0
