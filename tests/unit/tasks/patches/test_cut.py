from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.errors import InputError
from tasks.patches import cut
from tasks.patches.cut import cut_patches
from tasks.patches.pieces import pieces_of
from tasks.slides.tile_grid import Rgb, TileGrid


class PictureTiles:
    """Tiles of a picture in memory; counts how often each is read, and cannot read some."""

    def __init__(self, width_px: int, height_px: int, tile_px: tuple[int, int], broken: frozenset[int]) -> None:
        self.grid = TileGrid(width_px, height_px, *tile_px)
        self.picture = np.random.default_rng(0).integers(0, 256, (height_px, width_px, 3)).astype(np.uint8)
        self.broken = broken
        self.read: list[int] = []

    def read_tile(self, tile: int, out: Rgb) -> None:
        self.read.append(tile)
        out[:] = 7
        if tile in self.broken:
            raise InputError("is broken")
        x, y = self.grid.corner_px(tile)
        part = self.picture[y : y + out.shape[0], x : x + out.shape[1]]
        out[: part.shape[0], : part.shape[1]] = part


@st.composite
def tasks(draw: st.DrawFn) -> tuple[PictureTiles, np.ndarray, np.ndarray, int]:
    width, height = draw(st.integers(8, 90)), draw(st.integers(8, 90))
    tile = draw(st.integers(3, 40)), draw(st.integers(3, 40))
    side = draw(st.integers(1, min(width, height)))
    corners = draw(st.lists(st.tuples(st.integers(0, width - side), st.integers(0, height - side)), max_size=30))
    tiles = TileGrid(width, height, *tile).tiles
    broken = draw(st.frozensets(st.integers(0, tiles - 1), max_size=2))
    x, y = np.array(corners, np.int64).reshape(-1, 2).T
    return PictureTiles(width, height, tile, broken), x, y, side


@given(tasks(), st.integers(1, 4))
def test_every_patch_comes_once_with_its_pixels_or_as_unreadable(
    task: tuple[PictureTiles, np.ndarray, np.ndarray, int], band_columns: int
) -> None:
    source, x, y, side = task
    grid = source.grid
    pieces = pieces_of(x, y, side, grid)
    unreadable = {int(patch) for patch, tile in zip(pieces.patch, pieces.tile, strict=True) if tile in source.broken}
    got: list[int] = []
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(cut, "BAND_COLUMNS", band_columns)
        for patch, pixels in cut_patches(source, x, y, side):
            got.append(patch)
            assert (pixels is None) == (patch in unreadable)
            if pixels is not None:
                left, top = int(x[patch]), int(y[patch])
                assert np.array_equal(pixels, source.picture[top : top + side, left : left + side])
    assert sorted(got) == list(range(len(x)))


def test_each_tile_is_read_once_in_the_order_of_the_file() -> None:
    source = PictureTiles(600, 400, (32, 32), frozenset())
    places = np.random.default_rng(1).integers(0, [600 - 50, 400 - 50], (500, 2))
    assert len(list(cut_patches(source, places[:, 0], places[:, 1], 50))) == 500
    assert source.read == sorted(set(source.read))


def test_a_wide_level_is_walked_in_bands_that_share_only_their_border(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cut, "BAND_COLUMNS", 4)
    source = PictureTiles(1024, 320, (32, 32), frozenset())
    x, y = np.meshgrid(np.arange(0, 1000, 24), np.arange(0, 296, 24))
    list(cut_patches(source, x.ravel(), y.ravel(), 24))
    again = [tile for tile, times in Counter(source.read).items() if times > 1]
    assert max(Counter(source.read).values()) == 2
    assert {tile % source.grid.columns for tile in again} <= set(range(4, 32, 4))


def test_pieces_cover_each_patch_exactly() -> None:
    grid = TileGrid(100, 100, 16, 24)
    x, y = np.array([0, 15, 16, 70]), np.array([0, 23, 24, 70])
    pieces = pieces_of(x, y, 30, grid)
    covered = np.zeros((4, 30, 30), int)
    for patch, left, top, width, height in zip(
        pieces.patch, pieces.patch_x_px, pieces.patch_y_px, pieces.width_px, pieces.height_px, strict=True
    ):
        covered[patch, top : top + height, left : left + width] += 1
    assert (covered == 1).all()
    assert (pieces.tile_x_px + pieces.width_px <= 16).all()
    assert (pieces.tile_y_px + pieces.height_px <= 24).all()


@pytest.mark.parametrize(("x", "y"), [(-1, 0), (0, -1), (71, 0), (0, 71)])
def test_a_patch_that_reaches_out_is_our_bug(x: int, y: int) -> None:
    with pytest.raises(ValueError, match="reaches out"):
        pieces_of(np.array([5, x]), np.array([5, y]), 30, TileGrid(100, 100, 16, 16))
