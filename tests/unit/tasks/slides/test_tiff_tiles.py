from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import tifffile

from tasks.errors import InputError
from tasks.slides.openslide_tiles import OpenSlideTiles
from tasks.slides.reader import SlideReader, open_slide
from tasks.slides.synthetic.cohort import CohortSummary
from tasks.slides.tiff_tiles import TiffTiles, find_jpeg_tiles
from tasks.slides.tile_grid import TileSource
from tests.services.jpeg_slides import TILE_PX, picture, write_jpeg_slide

WIDTH_PX, HEIGHT_PX = 5 * TILE_PX + 10, 4 * TILE_PX + 30


@contextmanager
def direct_tiles(reader: SlideReader, level: int = 0) -> Iterator[TiffTiles]:
    layout = find_jpeg_tiles(reader, level)
    assert layout is not None
    tiles = TiffTiles(reader.path, layout)
    try:
        yield tiles
    finally:
        tiles.close()


def assert_same_as_openslide(reader: SlideReader, source: TileSource, level: int) -> None:
    width, height = reader.level_dimensions_px[level]
    downsample = reader.level_downsamples[level]
    pixels = source.grid.new_tile()
    for tile in range(source.grid.tiles):
        source.read_tile(tile, pixels)
        x, y = source.grid.corner_px(tile)
        wide, high = min(pixels.shape[1], width - x), min(pixels.shape[0], height - y)
        shown = reader.read_region(round(x * downsample), round(y * downsample), level, wide, high)
        assert np.array_equal(pixels[:high, :wide], shown), tile


@pytest.mark.parametrize(
    "kind",
    [
        {},
        {"subsampling": "444"},
        {"photometric": "rgb", "colours": "RGB", "subsampling": "444"},
    ],
    ids=["YCbCr 4:2:0", "YCbCr 4:4:4", "RGB"],
)
def test_tiles_are_to_the_bit_what_openslide_shows(tmp_path: Path, kind: dict[str, str]) -> None:
    path = write_jpeg_slide(tmp_path / "a.tif", picture(WIDTH_PX, HEIGHT_PX), **kind)  # type: ignore[arg-type]  # strings all
    with open_slide(path) as reader, direct_tiles(reader) as tiles:
        assert (tiles.grid.columns, tiles.grid.rows) == (6, 5)
        assert_same_as_openslide(reader, tiles, 0)
        assert_same_as_openslide(reader, OpenSlideTiles(reader, 0), 0)


def test_every_level_of_a_pyramid_has_its_tiles(small_cohort: CohortSummary) -> None:
    with open_slide(small_cohort.folder / "images" / f"{small_cohort.slides[0].name}.tif") as reader:
        for level in range(reader.level_count):
            with direct_tiles(reader, level) as tiles:
                assert_same_as_openslide(reader, tiles, level)


@pytest.mark.parametrize("name", ["slides/CMU-1-Small-Region.svs", "mini_camelyon/patient_004_node_4.tif"])
def test_real_slides_too(real_data: Path, name: str) -> None:
    # The first is an Aperio slide of RGB streams with shared tables, the second YCbCr as CAMELYON's.
    with open_slide(real_data / name) as reader, direct_tiles(reader) as tiles:
        assert_same_as_openslide(reader, tiles, 0)


def test_a_tile_that_was_not_scanned_is_white_and_not_black_tissue(tmp_path: Path) -> None:
    path = write_jpeg_slide(tmp_path / "a.tif", picture(WIDTH_PX, HEIGHT_PX), empty=[0, 7])
    with open_slide(path) as reader, direct_tiles(reader) as tiles:
        pixels = tiles.grid.new_tile()
        for tile in (0, 7):
            pixels[:] = 0
            tiles.read_tile(tile, pixels)
            assert (pixels == 255).all()
            assert tiles.compressed(tile) == b""
        assert_same_as_openslide(reader, tiles, 0)


def test_a_damaged_tile_is_named_and_spoils_no_other(tmp_path: Path) -> None:
    path = write_jpeg_slide(tmp_path / "a.tif", picture(WIDTH_PX, HEIGHT_PX), broken=[8])
    whole = write_jpeg_slide(tmp_path / "b.tif", picture(WIDTH_PX, HEIGHT_PX))
    with open_slide(path) as reader, open_slide(whole) as good, direct_tiles(reader) as tiles:
        for source in (tiles, OpenSlideTiles(reader, 0)):
            pixels = source.grid.new_tile()
            with pytest.raises(InputError, match="cannot be decoded") as caught:
                source.read_tile(8, pixels)
            assert caught.value.subject == str(path)
            source.read_tile(9, pixels)
            x, y = source.grid.corner_px(9)
            assert np.array_equal(pixels, good.read_region(x, y, 0, TILE_PX, TILE_PX))


def test_bytes_beyond_the_end_of_the_file_are_a_damaged_tile(tmp_path: Path) -> None:
    path = write_jpeg_slide(tmp_path / "a.tif", picture(WIDTH_PX, HEIGHT_PX))
    with open_slide(path) as reader:
        layout = find_jpeg_tiles(reader, 0)
        assert layout is not None
        layout.offsets[3] = path.stat().st_size + 5
        layout.sizes[4] = 1
        tiles = TiffTiles(path, layout)
        for tile in (3, 4):
            with pytest.raises(InputError, match=f"tile {tile} cannot be decoded"):
                tiles.read_tile(tile, layout.grid.new_tile())
        tiles.close()


@pytest.mark.parametrize(("photometric", "colours"), [("rgb", "YCBCR"), ("ycbcr", "RGB")])
def test_colours_that_openslide_sees_otherwise_are_left_to_openslide(
    tmp_path: Path, photometric: str, colours: str
) -> None:
    # The file calls the streams RGB, or luma and chroma; they are the other, and say so themselves.
    path = write_jpeg_slide(
        tmp_path / "a.tif", picture(WIDTH_PX, HEIGHT_PX), photometric=photometric, colours=colours, subsampling="444"
    )
    with open_slide(path) as reader:
        assert find_jpeg_tiles(reader, 0) is None


@pytest.mark.parametrize("compression", ["zlib", "none"])
def test_what_is_no_jpeg_is_read_through_openslide(tmp_path: Path, compression: str) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(
        path, picture(WIDTH_PX, HEIGHT_PX), tile=(TILE_PX, TILE_PX), photometric="rgb", metadata=None,
        compression=None if compression == "none" else compression,
        resolution=(2e4, 2e4), resolutionunit="CENTIMETER",
    )  # fmt: skip
    with open_slide(path) as reader:
        assert find_jpeg_tiles(reader, 0) is None
        source = OpenSlideTiles(reader, 0)
        assert (source.grid.tile_width_px, source.grid.tile_height_px) == (TILE_PX, TILE_PX)
        assert_same_as_openslide(reader, source, 0)


def test_other_formats_are_read_through_openslide(real_data: Path) -> None:
    with open_slide(real_data / "slides" / "boxes_0.dcm", mpp=0.5) as reader:
        assert find_jpeg_tiles(reader, 0) is None
        assert_same_as_openslide(reader, OpenSlideTiles(reader, 0), 0)


def test_a_slide_whose_largest_tile_is_damaged_is_still_read_directly(tmp_path: Path) -> None:
    path = write_jpeg_slide(tmp_path / "a.tif", picture(WIDTH_PX, HEIGHT_PX))
    with tifffile.TiffFile(path) as file:
        sizes, offsets = file.pages[0].databytecounts, file.pages[0].dataoffsets
    largest = int(np.argmax(sizes))
    with path.open("r+b") as raw:
        raw.seek(offsets[largest])
        raw.write(bytes(sizes[largest]))
    with open_slide(path) as reader:
        layout = find_jpeg_tiles(reader, 0)
        assert layout is not None
        assert layout.example != largest
        with direct_tiles(reader) as tiles, pytest.raises(InputError, match="cannot be decoded"):
            tiles.read_tile(largest, tiles.grid.new_tile())
