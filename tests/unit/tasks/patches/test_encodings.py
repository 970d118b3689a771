"""The three ways in which a shard keeps pixels, on the same patches of the same slides."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from numpy.typing import NDArray

from tasks.config import Encoding
from tasks.errors import InputError, IntegrityError
from tasks.patches.candidates import Selection
from tasks.patches.jpeg_encoder import standard_quality
from tasks.patches.store import Shard, open_shard
from tasks.slides.reader import open_slide
from tests.services.cut_shards import SIDE_PX, cut, on_a_grid
from tests.services.jpeg_slides import TILE_PX, picture, write_jpeg_slide

ENCODINGS: list[Encoding] = ["raw", "tiles", "jpeg"]


@pytest.fixture(scope="module")
def slide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_jpeg_slide(tmp_path_factory.mktemp("slide") / "a.tif", picture(8 * TILE_PX, 8 * TILE_PX))


def all_of(path: Path) -> NDArray[np.uint8]:
    with open_shard(path) as shard:
        return shard.read(np.arange(shard.rows))


def psnr_db(first: NDArray[np.uint8], second: NDArray[np.uint8]) -> float:
    error = np.mean((first.astype(float) - second) ** 2)
    return float(10 * np.log10(255**2 / error)) if error else float("inf")


def shown(slide: Path, shard: Shard) -> NDArray[np.uint8]:
    """What OpenSlide shows at the places of a shard."""
    with open_slide(slide) as reader:
        places = zip(shard.x_level0_px.tolist(), shard.y_level0_px.tolist(), strict=True)
        return np.stack([reader.read_region(x, y, 0, SIDE_PX, SIDE_PX) for x, y in places])


@pytest.mark.parametrize("encoding", ["raw", "tiles"])
@pytest.mark.parametrize("stride_px", [SIDE_PX, 37, 100])
def test_pixels_come_back_to_the_bit(slide: Path, tmp_path: Path, encoding: Encoding, stride_px: int) -> None:
    path = cut(slide, tmp_path / "a.h5", encoding, on_a_grid(stride_px, first_px=3))
    with open_shard(path) as shard:
        assert shard.attributes.encoding == encoding
        assert np.array_equal(shard.read(np.arange(shard.rows)), shown(slide, shard))


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_rows_come_in_any_order_and_number(slide: Path, tmp_path: Path, encoding: Encoding) -> None:
    path = cut(slide, tmp_path / "a.h5", encoding, on_a_grid())
    everything = all_of(path)
    with open_shard(path) as shard:
        for rows in ([], [5], [7, 7, 2], list(range(30, 0, -1)), [99, 0, 50, 51, 52]):
            assert np.array_equal(shard.read(np.array(rows, np.int64)), everything[rows])
            memory = np.zeros((len(rows), SIDE_PX, SIDE_PX, 3), np.uint8)
            assert shard.read(np.array(rows, np.int64), memory) is memory
            assert np.array_equal(memory, everything[rows])


def test_the_index_is_the_same_in_all_encodings(slide: Path, tmp_path: Path) -> None:
    shards = [cut(slide, tmp_path / f"{encoding}.h5", encoding, on_a_grid()) for encoding in ENCODINGS]
    names = ("y_level0_px", "x_level0_px", "label", "tumour_fraction", "tissue_fraction")
    tables = []
    for path in shards:
        with open_shard(path) as shard:
            tables.append(sorted(zip(*(getattr(shard, name).tolist() for name in names), strict=True)))
    assert tables[0] == tables[1] == tables[2]
    with open_shard(shards[1]) as tiles:
        assert np.isnan(tiles.white_fraction).all()


def test_tiles_are_the_slides_own_bytes_each_once(slide: Path, tmp_path: Path) -> None:
    path = cut(slide, tmp_path / "a.h5", "tiles", on_a_grid(stride_px=31))
    original = slide.read_bytes()
    with h5py.File(path) as file:
        data = file["tiles/data"][:].tobytes()
        numbers = file["tiles/number"][:].tolist()
        for offset, size in zip(
            file["tiles/offset_bytes"][:].tolist(), file["tiles/size_bytes"][:].tolist(), strict=True
        ):
            assert data[offset : offset + size] in original
    assert numbers == sorted(set(numbers)) == list(range(64))
    assert len(data) < len(original)


def test_the_slides_own_tables_on_its_grid_are_nearer_than_a_higher_quality(slide: Path, tmp_path: Path) -> None:
    aligned = cut(slide, tmp_path / "a.h5", "jpeg", on_a_grid(stride_px=SIDE_PX))
    shifted = cut(slide, tmp_path / "b.h5", "jpeg", on_a_grid(stride_px=SIDE_PX, first_px=5))
    with open_shard(aligned) as near, open_shard(shifted) as far:
        near_db = psnr_db(near.read(np.arange(near.rows)), shown(slide, near))
        far_db = psnr_db(far.read(np.arange(far.rows)), shown(slide, far))
    assert near_db > 48
    assert near_db > far_db + 5


def test_tables_of_no_standard_quality_are_imitated_too(tmp_path: Path) -> None:
    slide = write_jpeg_slide(
        tmp_path / "a.tif", picture(4 * TILE_PX, 4 * TILE_PX), photometric="rgb", colours="RGB", subsampling="444"
    )
    selection = on_a_grid()
    inside = (selection.candidates.x_level0_px < 200) & (selection.candidates.y_level0_px < 200)
    selection = Selection(selection.candidates.take(inside), {}, Counter())
    path = cut(slide, tmp_path / "a.h5", "jpeg", selection)
    with open_shard(path) as shard:
        assert psnr_db(shard.read(np.arange(shard.rows)), shown(slide, shard)) > 48
    assert standard_quality({0: [1] * 64}) is None


def test_patches_that_are_scaled_are_the_same_from_tiles_and_raw(slide: Path, tmp_path: Path) -> None:
    selection = on_a_grid(stride_px=101)
    selection = Selection(selection.candidates.take(selection.candidates.x_level0_px < 400), {}, Counter())
    selection = Selection(selection.candidates.take(selection.candidates.y_level0_px < 400), {}, Counter())
    one = cut(slide, tmp_path / "a.h5", "tiles", selection, cut_px=72, mpp=0.75)
    other = cut(slide, tmp_path / "b.h5", "raw", selection, cut_px=72, mpp=0.75)
    assert all_of(one).shape[1:] == (SIDE_PX, SIDE_PX, 3)
    with open_shard(one) as tiles, open_shard(other) as raw:
        places = [np.lexsort((shard.x_level0_px, shard.y_level0_px)) for shard in (tiles, raw)]
        assert np.array_equal(tiles.read(places[0]), raw.read(places[1]))


def test_a_slide_without_jpeg_tiles_says_which_encodings_it_can_have(tmp_path: Path) -> None:
    import tifffile

    path = tmp_path / "a.tif"
    tifffile.imwrite(
        path, picture(512, 512), tile=(64, 64), photometric="rgb", compression="zlib", metadata=None,
        resolution=(2e4, 2e4), resolutionunit="CENTIMETER",
    )  # fmt: skip
    with pytest.raises(InputError, match="not stored in JPEG tiles") as caught:
        cut(path, tmp_path / "a.h5", "tiles", on_a_grid())
    assert "raw or jpeg" in str(caught.value.remedy)
    assert not (tmp_path / "a.h5").exists()
    cut(path, tmp_path / "b.h5", "jpeg", on_a_grid())
    with open_shard(tmp_path / "b.h5") as shard:
        assert psnr_db(shard.read(np.arange(shard.rows)), shown(path, shard)) > 32


def test_the_bytes_of_a_shard_do_not_depend_on_bands_or_order(
    slide: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for encoding in ("raw", "tiles"):
        one = cut(slide, tmp_path / f"{encoding}-one.h5", encoding, on_a_grid(41)).read_bytes()
        with monkeypatch.context() as patched:
            patched.setattr("tasks.patches.cut.BAND_COLUMNS", 2)
            assert cut(slide, tmp_path / f"{encoding}-two.h5", encoding, on_a_grid(41)).read_bytes() == one


def _set(name: str, place: int, value: int) -> Callable[[h5py.File], None]:
    def change(file: h5py.File) -> None:
        file[name][place] = value

    return change


HOSTILE: dict[str, tuple[Encoding, Callable[[h5py.File], None], str]] = {
    "stream outside": ("jpeg", _set("jpeg/offset_bytes", 3, 1 << 40), "streams outside"),
    "negative stream": ("jpeg", _set("jpeg/size_bytes", 3, -1), "streams outside"),
    "overflowing stream": ("jpeg", _set("jpeg/offset_bytes", 3, (1 << 63) - 1), "streams outside"),
    "no streams": ("jpeg", lambda file: file.__delitem__("jpeg/data"), "has no jpeg/data of its own"),
    "tile outside": ("tiles", _set("tiles/offset_bytes", 3, 1 << 40), "streams outside"),
    "giant tile": ("tiles", _set("tiles/grid_px", 2, 1 << 20), "impossible grid"),
    "no tile": ("tiles", _set("tiles/grid_px", 3, 0), "impossible grid"),
    "no tiles": ("tiles", lambda file: file.__delitem__("tiles/data"), "has no tiles/data of its own"),
    "no numbers": ("tiles", lambda file: file.__delitem__("tiles/number"), "has no tiles/number of its own"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_shard_that_is_not_what_it_says_is_refused_when_it_is_opened(slide: Path, tmp_path: Path, name: str) -> None:
    encoding, change, said = HOSTILE[name]
    path = cut(slide, tmp_path / "a.h5", encoding, on_a_grid())
    with h5py.File(path, "r+") as file:
        change(file)
    with pytest.raises(IntegrityError, match=said) as caught:
        open_shard(path)
    assert caught.value.subject == str(path)


DAMAGED: dict[str, tuple[Encoding, Callable[[h5py.File], None]]] = {
    "broken stream": ("jpeg", lambda file: file["jpeg/data"].__setitem__(slice(200, 900), 255)),
    "larger patch": ("jpeg", lambda file: file.attrs.__setitem__("patch_px", 32)),
    "smaller patch": ("jpeg", lambda file: file.attrs.__setitem__("patch_px", 64)),
    "broken tile": ("tiles", lambda file: file["tiles/data"].__setitem__(slice(200, 900), 255)),
    "tile of another place": ("tiles", _set("tiles/number", 0, 63)),
    "place outside": ("tiles", _set("index/x_level0_px", 0, 1 << 40)),
    "tile of another size": ("tiles", _set("tiles/grid_px", 2, 128)),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_damage_inside_of_the_pixels_is_named_when_they_are_read(slide: Path, tmp_path: Path, name: str) -> None:
    encoding, change = DAMAGED[name]
    path = cut(slide, tmp_path / "a.h5", encoding, on_a_grid())
    with h5py.File(path, "r+") as file:
        change(file)
    with open_shard(path) as shard, pytest.raises(IntegrityError) as caught:
        shard.read(np.arange(shard.rows))
    assert caught.value.subject == str(path)
