"""Cuts the selected patches out of a slide into a shard."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tasks.config import PreprocessConfig
from tasks.errors import InputError
from tasks.patches.attributes import ShardAttributes
from tasks.patches.candidates import Candidates, Selection
from tasks.patches.curve import curve_order
from tasks.patches.cut import cut_patches
from tasks.patches.filters import white_and_black_fraction
from tasks.patches.pieces import pieces_of
from tasks.patches.scale import corners_px, scaled
from tasks.patches.search import Search
from tasks.patches.store import Columns, ShardWriter, write_shard, write_tiles
from tasks.slides.openslide_tiles import OpenSlideTiles
from tasks.slides.reader import SlideReader
from tasks.slides.tiff_tiles import TiffTiles, find_jpeg_tiles
from tasks.slides.tile_grid import TileSource

MAX_UNREADABLE_SHARE = 0.05


@dataclass(frozen=True, slots=True)
class Extraction:
    """What became of a selection: patches kept by label, and positions left out by reason."""

    kept: Counter[int]
    rejected: Counter[str]

    @property
    def rows(self) -> int:
        """Number of patches in the shard."""
        return self.kept.total()

    @classmethod
    def empty(cls) -> Extraction:
        """Nothing was asked for."""
        return cls(Counter(), Counter())


def extract_patches(
    reader: SlideReader, selection: Selection, attributes: ShardAttributes, config: PreprocessConfig, path: Path
) -> Extraction:
    """Write the shard `path` with the selected patches.

    Which patches are kept is told in `tasks.patches.acceptance`: of each label the first ones of the selection that can
    be decoded and are neither too white nor too black. The others are counted by reason. The slide's tiles are visited
    in the order of the file, each decoded once a round; a round tries as many patches as are still missing. Which
    patches are kept, and in which row each of them is, does not depend on that order.

    With the encoding ``tiles`` nothing is decoded, so that no patch is too white or too black, and only tiles that are
    not there at all are noticed; a damaged one shows when it is read. The rows follow
    `curve_order`, since rows that are read together there should share tiles.

    Raises
    ------
    InputError
        More than 5 % of the patches that were tried cannot be decoded: the slide is broken. Or tiles are wanted of a
        slide that is not stored in JPEG tiles.
    """
    with _tiles(reader, attributes.level) as tiles:
        if attributes.encoding == "tiles":
            return _copy(reader, tiles, selection, attributes, config, path)
        example = tiles.example() if isinstance(tiles, TiffTiles) else None
        with write_shard(path, attributes, example) as writer:
            return _Cutting(reader, tiles, selection, attributes, config, writer).run()


class _Cutting:
    """One shard in the making."""

    def __init__(
        self,
        reader: SlideReader,
        tiles: TileSource,
        selection: Selection,
        attributes: ShardAttributes,
        config: PreprocessConfig,
        writer: ShardWriter,
    ) -> None:
        self._reader, self._tiles, self._writer = reader, tiles, writer
        self._candidates, self._attributes, self._config = selection.candidates, attributes, config
        self._search = Search(selection, config)
        self._tried = self._unreadable = 0

    def run(self) -> Extraction:
        for positions in self._search.rounds():
            self._cut(positions)
        positions, slots, rejected = self._search.result()
        white = self._search.white_fraction[positions].astype(np.float32)
        self._writer.keep(slots, index_of(self._candidates.take(positions), white))
        return Extraction(Counter(self._candidates.label[positions].tolist()), rejected)

    def _cut(self, positions: NDArray[np.int64]) -> None:
        """Try the candidates at `positions`."""
        tried, side_px = self._candidates.take(positions), self._attributes.side_level_px
        x_px, y_px = corners_px(
            tried.x_level0_px, tried.y_level0_px, self._attributes.level_downsample, side_px, self._tiles.grid
        )
        search = self._search
        for place, cut in cut_patches(self._tiles, x_px, y_px, side_px):
            position = int(positions[place])
            self._tried += 1
            if cut is None:
                self._unreadable += 1
                refuse_broken_slide(self._reader.path, self._unreadable, tried=self._tried, planned=search.planned)
                continue
            pixels = scaled(cut, self._attributes.patch_px)
            search.white_fraction[position], search.black_fraction[position] = white_and_black_fraction(
                pixels, self._config.white_level
            )
            if search.worth_writing(position):
                self._writer.put(search.slot_of(position), pixels)


def refuse_broken_slide(path: Path, unreadable: int, *, tried: int, planned: int) -> None:
    """Raise `InputError` when too many of a slide's patches cannot be decoded."""
    # One bad tile spoils a run of neighbours: until more is tried than planned, the share is that of the plan.
    if unreadable > max(planned, tried) * MAX_UNREADABLE_SHARE:
        raise InputError(
            f"cannot be decoded at {unreadable} of {tried} positions",
            subject=path,
            remedy="get a new copy of the slide; other slides are not affected",
        )


def index_of(candidates: Candidates, white_fraction: NDArray[np.float32]) -> Columns:
    """Give the columns of a shard's index."""
    return {
        "x_level0_px": candidates.x_level0_px,
        "y_level0_px": candidates.y_level0_px,
        "label": candidates.label,
        "tumour_fraction": candidates.tumour_fraction,
        "tissue_fraction": candidates.tissue_fraction,
        "white_fraction": white_fraction,
    }


def _copy(
    reader: SlideReader,
    tiles: TileSource,
    selection: Selection,
    attributes: ShardAttributes,
    config: PreprocessConfig,
    path: Path,
) -> Extraction:
    if not isinstance(tiles, TiffTiles):
        raise InputError(
            f"is not stored in JPEG tiles at level {attributes.level}",
            subject=reader.path,
            remedy="set preprocess.encoding to raw or jpeg",
        )
    search = Search(selection, config)
    tried = unreadable = 0
    for positions in search.rounds():
        readable = _readable(tiles, selection.candidates.take(positions), attributes)
        tried, unreadable = tried + len(positions), unreadable + int(np.count_nonzero(~readable))
        refuse_broken_slide(reader.path, unreadable, tried=tried, planned=search.planned)
        search.white_fraction[positions[readable]] = search.black_fraction[positions[readable]] = 0.0
    positions, _, rejected = search.result()
    chosen = selection.candidates.take(positions)
    side_level0_px = max(1, round(attributes.patch_level0_px))
    chosen = chosen.take(curve_order(chosen.x_level0_px, chosen.y_level0_px, side_level0_px))
    write_tiles(path, attributes, tiles, index_of(chosen, np.full(len(chosen), np.nan, np.float32)))
    return Extraction(Counter(chosen.label.tolist()), rejected)


def _readable(tiles: TiffTiles, chosen: Candidates, attributes: ShardAttributes) -> NDArray[np.bool_]:
    """Which patches lie on tiles that are there, as far as can be told without decoding them."""
    side_px = attributes.side_level_px
    corners = corners_px(chosen.x_level0_px, chosen.y_level0_px, attributes.level_downsample, side_px, tiles.grid)
    pieces = pieces_of(*corners, side_px, tiles.grid)
    numbers, place = np.unique(pieces.tile, return_inverse=True)
    there = np.array([tiles.begins(number) for number in numbers.tolist()], bool)
    readable = np.ones(len(chosen), bool)
    readable[pieces.patch[~there[place]]] = False
    return readable


@contextmanager
def _tiles(reader: SlideReader, level: int) -> Iterator[TileSource]:
    """Open the tiles of a level, without OpenSlide where that gives the same pixels."""
    layout = find_jpeg_tiles(reader, level)
    if layout is None:
        yield OpenSlideTiles(reader, level)
        return
    tiles = TiffTiles(reader.path, layout)
    try:
        yield tiles
    finally:
        tiles.close()
