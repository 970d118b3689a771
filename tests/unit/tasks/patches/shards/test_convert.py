from __future__ import annotations

import multiprocessing
import os
import signal
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from numpy.typing import NDArray

from tasks.digests import file_digest
from tasks.errors import InputError, IntegrityError, PermanentFault
from tasks.patches import tile_storage
from tasks.patches.filters import white_and_black_fraction
from tasks.patches.shards.convert import PixelEncoding, convert_shard, find_conversions
from tasks.patches.shards.find import find_shards
from tasks.patches.shards.verify import verify_shard
from tasks.patches.store import INDEX_DTYPES, Shard, open_shard
from tasks.slides import tiff_tiles
from tests.services.cut_shards import cut, on_a_grid
from tests.services.exported_shards import coloured, write_coloured
from tests.services.jpeg_slides import TILE_PX, picture, write_jpeg_slide
from tests.services.small_disk import needs_root, small_disk

LABELS = [1, 0, -1, 0, 1, 0, 0, 1]
PIXELS: list[PixelEncoding] = ["raw", "jpeg"]
SCALED: dict[str, object] = {"cut_px": 72, "mpp": 0.75}


@pytest.fixture(scope="module")
def slide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    # Larger than the grid of `on_a_grid`, so that patches that are scaled down fit too.
    return write_jpeg_slide(tmp_path_factory.mktemp("slide") / "a.tif", picture(9 * TILE_PX, 9 * TILE_PX))


@pytest.fixture
def tiles(slide: Path, tmp_path: Path) -> Path:
    return cut(slide, tmp_path / "a.patches.h5", "tiles", on_a_grid())


def converted(path: Path, encoding: PixelEncoding) -> Path:
    return convert_shard(path, path.parent / encoding / path.name, encoding).path


def everything(shard: Shard) -> NDArray[np.uint8]:
    return shard.read(np.arange(shard.rows))


def by_place(shard: Shard) -> NDArray[np.int64]:
    return np.lexsort((shard.x_level0_px, shard.y_level0_px))


def streams(path: Path) -> dict[tuple[int, int], bytes]:
    """JPEG stream of each place of a shard."""
    with h5py.File(path) as file:
        data = file["jpeg/data"][:].tobytes()
        columns = ("index/x_level0_px", "index/y_level0_px", "jpeg/offset_bytes", "jpeg/size_bytes")
        rows = zip(*(file[name][:].tolist() for name in columns), strict=True)
    return {(x, y): data[offset : offset + size] for x, y, offset, size in rows}


@pytest.mark.parametrize("facts", [{}, SCALED], ids=["as cut", "scaled"])
@pytest.mark.parametrize("stride_px", [48, 31])
def test_raw_from_tiles_is_the_same_to_the_bit(
    slide: Path, tmp_path: Path, stride_px: int, facts: dict[str, object]
) -> None:
    source = cut(slide, tmp_path / "a.h5", "tiles", on_a_grid(stride_px, first_px=3), **facts)
    direct = cut(slide, tmp_path / "b.h5", "raw", on_a_grid(stride_px, first_px=3), **facts)
    made = converted(source, "raw")
    assert verify_shard(made) == verify_shard(source)
    with open_shard(source) as tiles, open_shard(made) as raw, open_shard(direct) as cut_raw:
        assert np.array_equal(everything(raw), everything(tiles))
        assert np.array_equal(raw.read(by_place(raw)), cut_raw.read(by_place(cut_raw)))
        for name in INDEX_DTYPES.keys() - {"white_fraction"}:
            assert np.array_equal(getattr(raw, name), getattr(tiles, name)), name
        assert np.isnan(tiles.white_fraction).all()
        assert np.array_equal(raw.white_fraction[by_place(raw)], cut_raw.white_fraction[by_place(cut_raw)])


@pytest.mark.parametrize("facts", [{}, SCALED], ids=["as cut", "scaled"])
def test_jpeg_from_tiles_has_the_streams_that_the_slide_gives(
    slide: Path, tmp_path: Path, facts: dict[str, object]
) -> None:
    source = cut(slide, tmp_path / "a.h5", "tiles", on_a_grid(), **facts)
    direct = cut(slide, tmp_path / "b.h5", "jpeg", on_a_grid(), **facts)
    assert streams(converted(source, "jpeg")) == streams(direct)


@pytest.mark.parametrize("encoding", PIXELS)
def test_attributes_stay_but_the_encoding_and_where_it_comes_from(tiles: Path, encoding: PixelEncoding) -> None:
    with open_shard(tiles) as before, open_shard(converted(tiles, encoding)) as after:
        changes = {"encoding": encoding, "converted_from": file_digest(tiles)}
        assert after.attributes == before.attributes.model_copy(update=changes)
        assert (before.attributes.encoding, before.attributes.converted_from) == ("tiles", None)


@pytest.mark.parametrize("first", PIXELS)
def test_any_encoding_becomes_any_other_and_raw_keeps_the_pixels(tmp_path: Path, first: PixelEncoding) -> None:
    shard = write_coloured(tmp_path / "a.h5", LABELS, encoding=first)
    jpeg = converted(shard, "jpeg")
    raw = converted(jpeg, "raw")
    with open_shard(shard) as before, open_shard(jpeg) as middle, open_shard(raw) as after:
        assert np.array_equal(everything(middle), everything(after))
        assert np.abs(everything(before).astype(int) - everything(middle)).max() <= 6
        assert after.label.tolist() == LABELS
        assert after.attributes.converted_from == (file_digest(jpeg))


@pytest.mark.parametrize("encoding", PIXELS)
def test_a_shard_that_is_stored_so_is_copied(tmp_path: Path, encoding: PixelEncoding) -> None:
    shard = write_coloured(tmp_path / "a.h5", LABELS, encoding=encoding)
    made = converted(shard, encoding)
    assert made.read_bytes() == shard.read_bytes()
    assert convert_shard(shard, made, encoding).reused
    assert convert_shard(shard, shard, encoding).reused
    made.write_bytes(made.read_bytes()[:-1] + b"x")
    with pytest.raises(InputError, match="is there already"):
        convert_shard(shard, made, encoding)


def test_white_that_is_known_stays_and_the_rest_is_measured_as_the_configuration_says(tmp_path: Path) -> None:
    shard = write_coloured(tmp_path / "a.h5", LABELS, configuration='{"white_level": 50, "imported": "x"}')
    with h5py.File(shard, "r+") as file:
        file["index/white_fraction"][2] = 0.25
    with open_shard(converted(shard, "jpeg")) as after:
        # The patches are 49 to 56 grey.
        expected = [white_and_black_fraction(patch, 50)[0] for patch in coloured(len(LABELS))]
        expected[2] = 0.25
        assert len(set(expected)) > 2
        assert after.white_fraction.tolist() == np.array(expected, np.float32).tolist()


@pytest.mark.parametrize("configuration", ["no json", "[]", '{"white_level": 999}'])
def test_a_configuration_that_cannot_be_used_is_named(tmp_path: Path, configuration: str) -> None:
    shard = write_coloured(tmp_path / "a.h5", LABELS, configuration=configuration)
    with pytest.raises(IntegrityError, match="white level") as caught:
        converted(shard, "jpeg")
    assert caught.value.subject == str(shard)
    assert find_shards([tmp_path / "a.h5"]) == [shard]
    assert not (tmp_path / "jpeg" / "a.h5").exists()


@pytest.mark.parametrize("encoding", PIXELS)
def test_a_shard_without_rows_is_converted(slide: Path, tmp_path: Path, encoding: PixelEncoding) -> None:
    nothing = on_a_grid()
    nothing = type(nothing)(nothing.candidates.take(np.zeros(0, np.int64)), {}, nothing.rejected)
    assert verify_shard(converted(cut(slide, tmp_path / "a.h5", "tiles", nothing), encoding)) == 0


def test_what_an_import_does_not_know_stays_unknown(tmp_path: Path) -> None:
    unknown: dict[str, Any] = {"slide_width_px": None, "slide_height_px": None, "seed": None, "sampling": "imported"}
    with open_shard(converted(write_coloured(tmp_path / "a.h5", LABELS, **unknown), "jpeg")) as shard:
        assert {name: getattr(shard.attributes, name) for name in unknown} == unknown


@pytest.mark.parametrize("encoding", PIXELS)
def test_what_is_finished_is_found_by_what_it_was_made_of(tiles: Path, encoding: PixelEncoding) -> None:
    made = converted(tiles, encoding)
    before, time_ns = made.read_bytes(), made.stat().st_mtime_ns
    again = convert_shard(tiles, made, encoding)
    assert (again.reused, again.rows, again.bytes) == (True, verify_shard(tiles), len(before))
    assert made.stat().st_mtime_ns == time_ns
    made.unlink()
    assert not convert_shard(tiles, made, encoding).reused
    assert made.read_bytes() == before


def _other_source(source: Path, made: Path) -> None:
    with h5py.File(source, "r+") as file:
        file["index/label"][0] = 1 - file["index/label"][0]


def _other_encoding(source: Path, made: Path) -> None:
    made.unlink()
    convert_shard(source, made, "jpeg")


def _cut_off(source: Path, made: Path) -> None:
    made.write_bytes(made.read_bytes()[:-1])


def _no_shard(source: Path, made: Path) -> None:
    made.write_text("mine")


@pytest.mark.parametrize("change", [_other_source, _other_encoding, _cut_off, _no_shard])
def test_another_file_of_that_name_is_never_replaced(tiles: Path, change: Callable[[Path, Path], None]) -> None:
    made = converted(tiles, "raw")
    change(tiles, made)
    before = made.read_bytes()
    with pytest.raises(InputError, match=f"is there already, and was not made of {tiles}") as caught:
        converted(tiles, "raw")
    assert caught.value.subject == str(made)
    assert made.read_bytes() == before


@pytest.mark.parametrize("encoding", PIXELS)
def test_stretches_do_not_change_what_is_made(
    tiles: Path, monkeypatch: pytest.MonkeyPatch, encoding: PixelEncoding
) -> None:
    with open_shard(converted(tiles, encoding)) as made:
        whole = everything(made)
    monkeypatch.setattr(tile_storage, "_STRETCH_ROWS", 23)
    other = convert_shard(tiles, tiles.parent / "other.h5", encoding).path
    with open_shard(other) as made:
        assert np.array_equal(everything(made), whole)


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Numbers of the tiles that are decoded."""
    numbers: list[int] = []
    decode = tiff_tiles.decode_tile

    def counted(stream: bytes, head: bytes, out: NDArray[np.uint8], path: Path, tile: int) -> None:
        numbers.append(tile)
        decode(stream, head, out, path, tile)

    monkeypatch.setattr(tile_storage, "decode_tile", counted)
    return numbers


def test_each_tile_is_decoded_once_and_few_twice_when_there_are_many_stretches(
    slide: Path, tmp_path: Path, decoded: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    source = cut(slide, tmp_path / "a.h5", "tiles", on_a_grid(12))
    assert verify_shard(source) == 39 * 39
    assert sorted(decoded) == sorted(set(decoded))
    assert len(decoded) == 64
    decoded.clear()
    monkeypatch.setattr(tile_storage, "_STRETCH_ROWS", 39 * 39 // 4)
    assert verify_shard(source) == 39 * 39
    assert len(decoded) < 2 * 64


def test_memory_is_bounded_also_where_patches_overlap_much(
    slide: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = cut(slide, tmp_path / "a.h5", "tiles", on_a_grid(9))

    def peak_bytes() -> int:
        with open_shard(source) as shard:
            tracemalloc.start()
            rows = [row for row, _ in shard.stream()]
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
        assert sorted(rows) == list(range(shard.rows))
        return peak

    budget_bytes = 1 << 18
    without = peak_bytes()
    monkeypatch.setattr(tile_storage, "BATCH_BYTES", budget_bytes)
    assert peak_bytes() < 3 * budget_bytes < without


HOSTILE: dict[str, tuple[str, Callable[[h5py.File], None]]] = {
    "largest tile": ("cannot be decoded", lambda file: file["tiles/data"].__setitem__(slice(None), 255)),
    "one tile": ("cannot be decoded", lambda file: file["tiles/data"].__setitem__(slice(0, 300), 0)),
    "head": ("cannot be decoded", lambda file: file["tiles/head"].__setitem__(slice(0, 9), 0)),
    "place": ("reaches out", lambda file: file["index/x_level0_px"].__setitem__(0, 1 << 40)),
}


@pytest.mark.parametrize("encoding", PIXELS)
@pytest.mark.parametrize("name", HOSTILE)
def test_a_damaged_shard_is_named_and_leaves_nothing(tiles: Path, name: str, encoding: PixelEncoding) -> None:
    said, change = HOSTILE[name]
    with h5py.File(tiles, "r+") as file:
        change(file)
    with pytest.raises(IntegrityError, match=said) as caught:
        converted(tiles, encoding)
    assert caught.value.subject == str(tiles)
    assert [path.name for path in tiles.parent.rglob("*") if path.is_file()] == [tiles.name]


def test_a_tile_that_is_changed_anywhere_is_an_error_or_a_shard(tiles: Path, tmp_path: Path) -> None:
    with h5py.File(tiles) as file:
        place = int(file["tiles/size_bytes"][:].argmax())
        first = int(file["tiles/offset_bytes"][place])
    refused = 0
    for at in [*range(first, first + 620, 13), *range(first + 1, first + 30)]:
        with h5py.File(tiles, "r+") as file:
            byte = int(file["tiles/data"][at])
            file["tiles/data"][at] = byte ^ 0x11
        try:
            verify_shard(convert_shard(tiles, tmp_path / f"{at}.h5", "jpeg").path)
        except IntegrityError:
            refused += 1
        with h5py.File(tiles, "r+") as file:
            file["tiles/data"][at] = byte
    assert refused > 5


@pytest.mark.parametrize("encoding", PIXELS)
def test_killed_before_the_end_there_is_no_shard_and_the_next_call_makes_it(
    tiles: Path, encoding: PixelEncoding
) -> None:
    def killed() -> None:
        Path.replace = lambda *_: os.kill(os.getpid(), signal.SIGKILL)  # type: ignore[method-assign, assignment]  # in the process that dies
        converted(tiles, encoding)

    process = multiprocessing.get_context("fork").Process(target=killed)
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
    folder = tiles.parent / encoding
    assert [path.suffix for path in folder.iterdir()] == [".part"]
    assert find_shards([tiles.parent]) == [tiles]
    whole = convert_shard(tiles, tiles.parent / "whole.h5", encoding).path
    assert converted(tiles, encoding).read_bytes() == whole.read_bytes()


@needs_root
def test_a_full_disk_is_named_and_nothing_is_left(tmp_path: Path, tiles: Path) -> None:
    with small_disk(tmp_path / "disk", 256) as disk:
        with pytest.raises(PermanentFault, match="No space left"):
            convert_shard(tiles, disk / "a.h5", "raw")
        assert list(disk.iterdir()) == []


def test_shards_keep_their_place_below_the_folder_that_is_named(tmp_path: Path) -> None:
    for name in ("sampled/a.patches.h5", "grid/a.patches.h5", "b.h5"):
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        write_coloured(tmp_path / "in" / name, LABELS)
    found = find_conversions([tmp_path / "in", tmp_path / "in" / "b.h5"], tmp_path / "out")
    assert {str(path.relative_to(tmp_path)) for path in found.values()} == {
        "out/sampled/a.patches.h5",
        "out/grid/a.patches.h5",
        "out/b.h5",
    }
    assert all(
        source.relative_to(tmp_path / "in") == path.relative_to(tmp_path / "out") for source, path in found.items()
    )
    for inside in (tmp_path / "in", tmp_path / "in" / "raw", tmp_path / "out" / ".." / "in" / "raw"):
        with pytest.raises(InputError, match="whose shards are to be converted"):
            find_conversions([tmp_path / "in"], inside)
    assert find_conversions([tmp_path / "in" / "b.h5"], tmp_path / "in" / "raw")
