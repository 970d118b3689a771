from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st

from tasks.errors import InputError
from tasks.slides import mask_tiff
from tasks.slides.annotation_files import read_annotations
from tasks.slides.annotations import tumour_mask
from tasks.slides.mask_tiff import read_mask_tiff

Values = npt.NDArray[np.uint8]


def blobs(height: int = 300, width: int = 260, value: int = 255) -> Values:
    mask = np.zeros((height, width), np.uint8)
    cv2.circle(mask, (90, 110), 70, value, -1)
    cv2.circle(mask, (100, 120), 30, 0, -1)
    cv2.circle(mask, (105, 125), 9, value, -1)
    cv2.ellipse(mask, (190, 230), (60, 25), 30, 0, 360, value, -1)
    mask[5, 7] = value
    return mask


def write(path: Path, levels: Sequence[Values], *, sub_pages: bool = False, **settings: Any) -> Path:  # noqa: ANN401  # of tifffile
    settings = {"tile": (64, 64), "compression": "lzw", "photometric": "minisblack", "metadata": None} | settings
    with tifffile.TiffWriter(path, bigtiff=True) as file:
        if sub_pages:
            settings["subifds"] = len(levels) - 1
        for number, level in enumerate(levels):
            file.write(level, subfiletype=int(number > 0), **settings)
            settings.pop("subifds", None)
    return path


def halved(values: Values, times: int) -> list[Values]:
    """As ASAP makes its levels: every second pixel, an odd last one dropped."""
    levels = [values]
    for _ in range(times):
        last = levels[-1]
        levels.append(last[: last.shape[0] // 2 * 2 : 2, : last.shape[1] // 2 * 2 : 2])
    return levels


@pytest.mark.parametrize("compression", ["lzw", "zlib", "packbits", None])
@pytest.mark.parametrize("tile", [(64, 64), None])
def test_a_mask_is_painted_again_bit_for_bit(
    tmp_path: Path, compression: str | None, tile: tuple[int, int] | None
) -> None:
    mask = blobs()
    found = read_annotations(write(tmp_path / "a_mask.tif", [mask], compression=compression, tile=tile))
    assert found.image_px == (260, 300)
    assert (tumour_mask(found, mask.shape, 1, 1) == mask // 255).all()
    assert len(found.of("hole")) == 0
    assert sorted(len(one.inner_level0_px) for one in found.polygons) == [0, 0, 0, 1]


@pytest.mark.parametrize("sub_pages", [False, True])
@pytest.mark.parametrize("size", [(300, 260), (301, 263), (333, 211)])
def test_the_finest_level_within_the_bound_is_traced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: tuple[int, int], sub_pages: bool
) -> None:
    levels = halved(blobs(*size), 3)
    path = write(tmp_path / "a_mask.tif", levels, sub_pages=sub_pages)
    for number, level in enumerate(levels):
        monkeypatch.setattr(mask_tiff, "_MOST_PX", level.size)
        found = read_mask_tiff(path)
        # As OpenSlide states it: 301 / 150 and 263 / 131 are not quite 2.
        downsample = (size[1] / level.shape[1] + size[0] / level.shape[0]) / 2
        assert (tumour_mask(found, level.shape, downsample, downsample) == level // 255).all(), number
        assert found.image_px == (size[1], size[0])


@given(st.integers(1, 90), st.integers(1, 90), st.integers(1, 2000), st.integers(0, 9))
def test_without_a_small_level_pixels_at_even_distances_are_traced(
    height: int, width: int, most_px: int, seed: int
) -> None:
    values = (np.random.default_rng(seed).random((height, width)) < 0.5).astype(np.uint8) * 255
    step = int(np.ceil(np.sqrt(height * width / most_px)))
    rows = np.minimum(np.arange(0, height, step) + step // 2, height - 1)
    columns = np.minimum(np.arange(0, width, step) + step // 2, width - 1)
    with TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(mask_tiff, "_MOST_PX", most_px)
        found = read_mask_tiff(write(Path(folder) / "a.tif", [values], tile=(16, 32)))
    samples = values[rows][:, columns] // 255
    assert (tumour_mask(found, samples.shape, step, step) == samples).all()


def area(path: Path, tumour_values: tuple[int, ...] | None = None) -> int:
    return int(tumour_mask(read_annotations(path, tumour_values), (300, 260), 1, 1).sum())


def test_what_the_values_mean(tmp_path: Path) -> None:
    tissue, tumour = blobs(value=1), np.zeros((300, 260), np.uint8)
    tumour[60:90, 80:100] = 2
    both = np.maximum(tissue, tumour)
    own, inner = int((both == 1).sum()), int((both == 2).sum())
    published = write(tmp_path / "a.tif", [both])
    assert area(published, (2,)) == inner, "1 is tissue, 2 is tumour"
    assert area(published, (1,)) == own, "1 is metastasis, 2 is normal"
    assert area(published, (1, 2)) == own + inner
    assert area(write(tmp_path / "b.tif", [tissue]), (1,)) == int(tissue.sum())
    assert area(write(tmp_path / "b.tif", [tissue]), (2,)) == 0
    assert area(write(tmp_path / "c.tif", [blobs()]), (2,)) == area(tmp_path / "c.tif") == int(tissue.sum())
    assert area(write(tmp_path / "d.tif", [tissue * 0])) == 0


@pytest.mark.parametrize("values", [(0, 1), (0, 2), (0, 1, 2), (1, 255)])
def test_values_that_do_not_say_what_is_tumour_are_not_guessed(tmp_path: Path, values: tuple[int, ...]) -> None:
    mask = np.resize(np.repeat(values, 20), (64, 64)).astype(np.uint8)
    with pytest.raises(InputError, match="which do not say what is tumour") as caught:
        read_mask_tiff(write(tmp_path / "a.tif", [mask]))
    assert "cohort.tumour_values" in str(caught.value.remedy)


@pytest.mark.parametrize("stated", [None, (1,)])
def test_a_mask_that_was_interpolated_is_refused(tmp_path: Path, stated: tuple[int, ...] | None) -> None:
    smooth = cv2.blur(blobs(), (3, 3)).astype(np.uint8)
    with pytest.raises(InputError, match="so that it is no mask"):
        read_mask_tiff(write(tmp_path / "a.tif", [smooth]), stated)
    assert area(write(tmp_path / "b.tif", [np.full((300, 260), 7, np.uint8)]), (7,)) == 300 * 260


@pytest.mark.parametrize(
    ("pixels", "settings"),
    [
        (np.zeros((64, 64, 3), np.uint8), {"photometric": "rgb"}),
        (np.zeros((64, 64), np.uint16), {}),
        (np.zeros((64, 64), bool), {"tile": None, "compression": None}),
    ],
)
def test_other_pixels_than_one_channel_of_bytes_are_refused(
    tmp_path: Path, pixels: npt.NDArray[Any], settings: dict[str, Any]
) -> None:
    with pytest.raises(InputError, match="is no mask: 64 x 64 pixels"):
        read_mask_tiff(write(tmp_path / "a.tif", [pixels], **settings))


def pages(path: Path) -> list[tifffile.TiffPage]:
    with tifffile.TiffFile(path) as file:
        return list(file.pages)


def patch(path: Path, offset: int, data: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(data)


def test_a_tile_that_is_left_out_holds_no_tumour(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tif", [np.full((128, 128), 255, np.uint8)])
    tags = pages(path)[0].tags
    for tag in ("TileOffsets", "TileByteCounts"):
        patch(path, tags[tag].valueoffset, b"\0" * tags[tag].valuebytecount)
    assert read_mask_tiff(path).polygons == ()
    one = write(tmp_path / "b.tif", [np.full((128, 128), 255, np.uint8)])
    for tag in ("TileOffsets", "TileByteCounts"):
        patch(one, pages(one)[0].tags[tag].valueoffset, b"\0" * (tags[tag].valuebytecount // 4))
    assert tumour_mask(read_mask_tiff(one), (128, 128), 1, 1).sum() == 3 * 64 * 64


@pytest.mark.parametrize("compression", ["lzw", "zlib", None])
@pytest.mark.parametrize("tenths", range(10))
def test_a_truncated_mask_is_refused(tmp_path: Path, compression: str | None, tenths: int) -> None:
    path = write(tmp_path / "a.tif", [blobs()], compression=compression)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * tenths // 10])
    with pytest.raises(InputError, match=r"a\.tif") as caught:
        read_mask_tiff(path)
    assert caught.value.remedy


@pytest.mark.parametrize("compression", ["lzw", "zlib", "packbits"])
def test_a_corrupt_tile_fails_the_mask(tmp_path: Path, compression: str) -> None:
    path = write(tmp_path / "a.tif", [blobs()], compression=compression)
    page = pages(path)[0]
    patch(path, page.dataoffsets[3], b"\0" * page.databytecounts[3])
    with pytest.raises(InputError, match="cannot be read as a mask TIFF"):
        read_mask_tiff(path)


def test_an_offset_beyond_the_file_fails_the_mask(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tif", [blobs()])
    patch(path, pages(path)[0].tags["TileOffsets"].valueoffset + 8, struct.pack("<Q", 1 << 40))
    with pytest.raises(InputError, match="does not have the data"):
        read_mask_tiff(path)


@pytest.mark.parametrize("data", [b"", b"II*\0", b"II*\0\0\0\0\0", b"II+\0" + b"\0" * 60, b"no TIFF at all" * 9])
def test_what_is_no_tiff_is_refused(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "a.tif"
    path.write_bytes(data)
    with pytest.raises(InputError, match="cannot be read as a mask TIFF"):
        read_mask_tiff(path)
    with pytest.raises(InputError, match="cannot be read as a mask TIFF"):
        read_mask_tiff(tmp_path / "none.tif")


def test_directories_that_run_in_a_circle_come_to_an_end(tmp_path: Path) -> None:
    levels = halved(blobs(), 2)
    path = write(tmp_path / "a.tif", levels)
    first, *_, last = pages(path)
    with path.open("rb") as file:
        file.seek(last.offset)
        (count,) = struct.unpack("<Q", file.read(8))
    patch(path, last.offset + 8 + 20 * count, struct.pack("<Q", first.offset))
    assert (tumour_mask(read_mask_tiff(path), (300, 260), 1, 1) == levels[0] // 255).all()


@pytest.mark.parametrize("tag", ["ImageWidth", "TileWidth"])
def test_a_mask_that_claims_to_be_huge_is_refused(tmp_path: Path, tag: str) -> None:
    path = write(tmp_path / "a.tif", [blobs()], tile=(64, 64) if tag == "TileWidth" else None)
    entry = pages(path)[0].tags[tag]
    patch(path, entry.offset, struct.pack("<HHQI", entry.code, 4, 1, 1 << 30))
    with pytest.raises(InputError, match="too much to be read"):
        read_mask_tiff(path)


def test_the_mask_of_a_real_slide_is_its_outlines(real_data: Path, tmp_path: Path) -> None:
    drawn = read_annotations(real_data / "mini_camelyon" / "patient_004_node_4.xml")
    mask = tumour_mask(drawn, (5120, 6144), 1, 1)
    path = write(tmp_path / "patient_004_node_4_mask.tif", halved(mask * 255, 5), tile=(512, 512))
    traced = read_annotations(path).within(6144, 5120)
    assert (tumour_mask(traced, (5120, 6144), 1, 1) == mask).all()
    for downsample in (8, 32):
        shape = (5120 // downsample, 6144 // downsample)
        differ = tumour_mask(traced, shape, downsample, downsample) != tumour_mask(drawn, shape, downsample, downsample)
        assert differ.mean() < 1e-3
