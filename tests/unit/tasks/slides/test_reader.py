from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
import tifffile

from tasks.errors import InputError
from tasks.slides.reader import open_slide


def write_tiff(path: Path, rgb: np.ndarray, *, mpp: tuple[float, float] | None = (0.5, 0.5), tile: int = 64) -> Path:
    resolution = {} if mpp is None else {"resolution": (1e4 / mpp[0], 1e4 / mpp[1]), "resolutionunit": "CENTIMETER"}
    tifffile.imwrite(path, rgb, tile=(tile, tile), photometric="rgb", metadata=None, **resolution)
    return path


def picture(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 255, (height, width, 3), dtype=np.uint8)


def test_a_region_has_the_pixels_of_the_file(tmp_path: Path) -> None:
    rgb = picture(200, 300)
    with open_slide(write_tiff(tmp_path / "a.tif", rgb)) as slide:
        assert slide.dimensions_px == (300, 200)
        assert slide.mpp == pytest.approx(0.5)
        region = slide.read_region(30, 20, 0, 100, 80)
    assert region.dtype == np.uint8
    assert (region == rgb[20:100, 30:130]).all()


def test_outside_the_slide_is_white(tmp_path: Path) -> None:
    with open_slide(write_tiff(tmp_path / "a.tif", picture(64, 64))) as slide:
        region = slide.read_region(32, -16, 0, 64, 64)
    assert (region[:16] == 255).all()
    assert (region[:, 32:] == 255).all()
    assert (region[16:, :32] != 255).any()


def sparse_tiff(path: Path) -> Path:
    """Tiles 0 to 3 of a 128 x 128 slide; tile 1 was never scanned (byte count 0)."""
    rgb = np.full((128, 128, 3), 90, np.uint8)
    write_tiff(path, rgb)
    with tifffile.TiffFile(path, mode="r+b") as file:
        for name in ("TileOffsets", "TileByteCounts"):
            tag = file.pages[0].tags[name]
            tag.overwrite([0 if index == 1 else value for index, value in enumerate(tag.value)])
    return path


def test_unscanned_tiles_are_white_not_black(tmp_path: Path) -> None:
    with open_slide(sparse_tiff(tmp_path / "sparse.tif")) as slide:
        region = slide.read_region(0, 0, 0, 128, 128)
    assert (region[:64, 64:] == 255).all()
    assert (region[64:] == 90).all()


@pytest.mark.parametrize(
    ("mpp", "cause"),
    [(None, "does not state"), ((352.0, 352.0), "outside 0.05 to 20"), ((0.5, 0.6), "not square")],
)
def test_a_useless_resolution_is_named_and_can_be_replaced(
    tmp_path: Path, mpp: tuple[float, float] | None, cause: str
) -> None:
    path = write_tiff(tmp_path / "a.tif", picture(64, 64), mpp=mpp)
    with pytest.raises(InputError, match=cause) as caught:
        open_slide(path)
    assert caught.value.subject == str(path)
    assert "--mpp" in str(caught.value.remedy)
    with open_slide(path, mpp=0.25) as slide:
        assert slide.mpp == 0.25


@pytest.mark.parametrize("resolution", [(0, 1), (1, 0), (0, 0)])
def test_a_resolution_that_is_no_number_is_named(tmp_path: Path, resolution: tuple[int, int]) -> None:
    path = write_tiff(tmp_path / "a.tif", picture(64, 64), mpp=(0.5, 0.5))
    with tifffile.TiffFile(path, mode="r+b") as file:
        for page in file.pages:
            page.tags["XResolution"].overwrite(resolution)
            page.tags["YResolution"].overwrite(resolution)
    with pytest.raises(InputError, match=r"a\.tif") as caught:
        open_slide(path)
    assert "--mpp" in str(caught.value.remedy)
    with open_slide(path, mpp=0.25) as slide:
        assert slide.mpp == 0.25


def test_tiles_that_state_giant_sizes_are_refused_undecoded(tmp_path: Path) -> None:
    path = write_tiff(tmp_path / "a.tif", picture(64, 64))
    with tifffile.TiffFile(path, mode="r+b") as file:
        for name in ("TileWidth", "TileLength"):
            file.pages[0].tags[name].overwrite(16_384)
    with pytest.raises(InputError, match="tiles of 16384 x 16384 px") as caught:
        open_slide(path)
    assert caught.value.subject == str(path)
    assert caught.value.remedy


def test_the_slides_own_resolution_is_used_where_it_is_good(tmp_path: Path) -> None:
    with open_slide(write_tiff(tmp_path / "a.tif", picture(64, 64)), mpp=3.0) as slide:
        assert slide.mpp == pytest.approx(0.5)


@pytest.mark.parametrize("content", [b"", b"II*\0 no tiff at all", b"\x89PNG\r\n\x1a\n"])
def test_a_file_that_is_no_slide_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "broken.tif"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"broken\.tif"):
        open_slide(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is no file"):
        open_slide(tmp_path / "none.tif")


def test_a_corrupt_tile_costs_only_itself(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(
        path, picture(128, 128), tile=(64, 64), photometric="rgb", compression="zlib", metadata=None,
        resolution=(2e4, 2e4), resolutionunit="CENTIMETER",
    )  # fmt: skip
    with tifffile.TiffFile(path) as file:
        offset, count = file.pages[0].dataoffsets[0], file.pages[0].databytecounts[0]
    with path.open("r+b") as raw:
        raw.seek(offset)
        raw.write(b"\xff" * count)
    with open_slide(path) as slide:
        with pytest.raises(InputError, match="tile cannot be decoded at x=0, y=0"):
            slide.read_region(0, 0, 0, 32, 32)
        assert slide.read_region(64, 64, 0, 64, 64).shape == (64, 64, 3)


def test_a_level_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with (
        open_slide(write_tiff(tmp_path / "a.tif", picture(64, 64))) as slide,
        pytest.raises(InputError, match="has no level 3"),
    ):
        slide.read_region(0, 0, 3, 8, 8)


def test_an_overview_of_one_big_level_is_its_area_average(tmp_path: Path) -> None:
    rgb = picture(640, 960)
    with open_slide(write_tiff(tmp_path / "a.tif", rgb)) as slide:
        overview = slide.read_overview(8.0)
        small = slide.read_overview(8.0, most_px=600)
    assert overview.downsample == 16
    assert overview.um_per_px == pytest.approx(8.0)
    average = rgb.reshape(40, 16, 60, 16, 3).mean(axis=(1, 3))
    assert np.abs(overview.rgb - average).max() <= 0.51
    assert small.rgb.shape[0] * small.rgb.shape[1] <= 620


def test_an_overview_is_read_in_bands_that_fit_the_budget(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rgb = picture(640, 960)
    path = write_tiff(tmp_path / "a.tif", rgb)
    with open_slide(path) as slide:
        whole = slide.read_overview(4.0).rgb
    monkeypatch.setattr("tasks.slides.reader._READ_BUDGET_PX", 1 << 14)
    with open_slide(path) as slide:
        sizes: list[int] = []
        read = slide.read_region

        def counted(x: int, y: int, level: int, width: int, height: int) -> np.ndarray:
            sizes.append(width * height)
            return read(x, y, level, width, height)

        monkeypatch.setattr(slide, "read_region", counted)
        banded = slide.read_overview(4.0).rgb
    assert (banded == whole).all()
    assert len(sizes) > 10
    assert max(sizes) <= 1 << 14


def test_real_levels_are_not_powers_of_two(real_data: Path) -> None:
    path = real_data / "slides" / "boxes.tiff"
    with pytest.raises(InputError, match=r"outside 0\.05 to 20"):
        open_slide(path)
    with open_slide(path, mpp=1.0) as slide:
        assert slide.level_count == 4
        assert slide.level_downsamples[3] == pytest.approx(8.086, abs=1e-3)
        assert slide.level_for_mpp(1.0) == 0
        assert slide.level_for_mpp(4.0) == 2
        assert slide.level_for_mpp(3.9) == 1
        assert slide.level_for_mpp(0.5) == 0


def test_real_slides_open_and_read(real_data: Path) -> None:
    with open_slide(real_data / "slides" / "CMU-1-Small-Region.svs") as slide:
        assert slide.mpp == pytest.approx(0.499)
        assert slide.dimensions_px == (2220, 2967)
        overview = slide.read_overview(8.0)
        assert overview.rgb.shape == (186, 139, 3)
    with open_slide(real_data / "mini_camelyon" / "patient_004_node_4.tif") as slide:
        assert slide.mpp == pytest.approx(0.243)
        assert slide.read_overview(8.0).rgb.shape == (160, 192, 3)


def test_real_broken_slides_are_named(real_data: Path) -> None:
    with pytest.raises(InputError, match=r"unopenable\.tiff: does not open"):
        open_slide(real_data / "slides" / "unopenable.tiff")
    with open_slide(real_data / "slides" / "unreadable.svs") as slide:
        for _ in range(2):
            with pytest.raises(InputError, match=r"unreadable\.svs: tile cannot be decoded"):
                slide.read_region(0, 0, 0, 16, 16)


def test_no_warning_is_left_behind(tmp_path: Path) -> None:
    path = write_tiff(tmp_path / "a.tif", picture(64, 64))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with open_slide(path) as slide:
            slide.read_region(0, 0, 0, 8, 8)
        del slide
    assert not caught
