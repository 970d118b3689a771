from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.errors import IntegrityError, PermanentFault
from tasks.patches.store import INDEX_DTYPES, PatchBatch, open_shard, write_shard
from tests.services.plain_shards import SIDE_PX, plain_attributes, plain_batch
from tests.services.small_disk import needs_root, small_disk

ROWS = 40


def write(path: Path, *batches: PatchBatch) -> Path:
    with write_shard(path, plain_attributes()) as writer:
        for batch in batches:
            writer.append(batch)
    return path


@pytest.fixture
def shard(tmp_path: Path) -> Path:
    return write(tmp_path / "a.patches.h5", plain_batch(ROWS))


@given(
    sizes=st.lists(st.integers(0, 70), max_size=4),
    data=st.data(),
)
def test_patches_come_back_in_any_order_and_number(sizes: list[int], data: st.DataObject) -> None:
    batches = [plain_batch(size, seed=seed) for seed, size in enumerate(sizes)]
    pixels = np.concatenate([np.empty((0, SIDE_PX, SIDE_PX, 3), np.uint8), *(batch.pixels for batch in batches)])
    rows = data.draw(st.lists(st.integers(0, len(pixels) - 1), max_size=80) if len(pixels) else st.just([]))
    with tempfile.TemporaryDirectory() as folder, open_shard(write(Path(folder, "a.h5"), *batches)) as shard:
        assert shard.rows == len(pixels)
        assert shard.attributes == plain_attributes()
        assert np.array_equal(shard.read(np.array(rows, np.int64)), pixels[rows])
        assert np.array_equal(shard.read(np.arange(shard.rows)), pixels)
        for name, dtype in INDEX_DTYPES.items():
            column = getattr(shard, name)
            assert column.dtype == dtype
            assert column.tolist() == [value for batch in batches for value in batch.index[name].tolist()]


@given(st.data())
def test_whatever_the_operating_system_gives_at_once_every_row_is_whole(data: st.DataObject) -> None:
    rows = data.draw(st.lists(st.integers(0, ROWS - 1), max_size=60))
    plain_read = os.preadv

    def a_part(descriptor: int, pieces: list[memoryview], offset_bytes: int) -> int:
        most = data.draw(st.integers(1, sum(map(len, pieces))))
        kept = []
        for piece in pieces:
            kept.append(piece[:most])
            most -= len(kept[-1])
        return plain_read(descriptor, kept, offset_bytes)

    with (
        tempfile.TemporaryDirectory() as folder,
        pytest.MonkeyPatch.context() as patched,
        open_shard(write(Path(folder, "a.h5"), plain_batch(ROWS))) as shard,
    ):
        patched.setattr(os, "preadv", a_part)
        patched.setattr("tasks.patches.pixel_storage.MOST_PIECES", data.draw(st.integers(1, 70)))
        assert np.array_equal(shard.read(np.array(rows, np.int64)), plain_batch(ROWS).pixels[rows])


@pytest.mark.parametrize("rows", [[-1], [ROWS], [0, ROWS + 5]])
def test_rows_that_are_not_there_are_refused(shard: Path, rows: list[int]) -> None:
    with open_shard(shard) as opened, pytest.raises(IndexError, match=f"of {ROWS}"):
        opened.read(np.array(rows))


def test_the_same_patches_give_the_same_bytes_at_another_time(tmp_path: Path) -> None:
    first = write(tmp_path / "a.h5", plain_batch(ROWS)).read_bytes()
    time.sleep(1.1)  # HDF5's time stamps are in whole seconds
    assert write(tmp_path / "b.h5", plain_batch(ROWS)).read_bytes() == first
    assert write(tmp_path / "c.h5", plain_batch(ROWS, seed=1)).read_bytes() != first


def test_attributes_that_are_known_or_not_come_back(tmp_path: Path) -> None:
    for attributes in (
        plain_attributes(node=3, centre=0),
        plain_attributes(sampling="grid", stride_px=16, level=2, level_downsample=4.01, truth="unknown"),
        plain_attributes(sampling="imported", slide_width_px=None, slide_height_px=None, seed=None),
    ):
        with write_shard(tmp_path / "a.h5", attributes):
            pass
        with open_shard(tmp_path / "a.h5") as opened:
            assert opened.attributes == attributes
            assert opened.rows == 0


def test_a_shard_is_there_only_when_it_is_complete(tmp_path: Path) -> None:
    def fail(path: Path) -> None:
        with write_shard(path, plain_attributes()) as writer:
            writer.append(plain_batch(5))
            raise RuntimeError("bug")

    with pytest.raises(RuntimeError, match="bug"):
        fail(tmp_path / "a.h5")
    assert list(tmp_path.iterdir()) == []


@needs_root
def test_a_full_disk_is_named_and_what_was_there_is_kept(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 512) as disk:
        write(disk / "a.h5", plain_batch(3))
        with pytest.raises(PermanentFault, match="No space left"):
            write(disk / "a.h5", *[plain_batch(64, seed=seed) for seed in range(20)])
        with open_shard(disk / "a.h5") as opened:
            assert opened.rows == 3
        assert [path.name for path in disk.iterdir()] == ["a.h5"]


@pytest.mark.parametrize("tenths", range(10))
def test_a_shard_that_is_cut_off_is_refused(shard: Path, tenths: int) -> None:
    data = shard.read_bytes()
    shard.write_bytes(data[: len(data) * tenths // 10])
    with pytest.raises(IntegrityError) as caught:
        open_shard(shard)
    assert caught.value.subject == str(shard)
    assert "transfer it again" in str(caught.value.remedy)


def test_a_shard_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(IntegrityError, match="is not there") as caught:
        open_shard(tmp_path / "none.h5")
    assert caught.value.subject == str(tmp_path / "none.h5")


def _replace(file: h5py.File, name: str, value: Any, **options: Any) -> None:  # noqa: ANN401  # whatever h5py takes
    del file[name]
    file.create_dataset(name, data=value, **options)


def _without(attribute: str) -> Callable[[h5py.File], None]:
    return lambda file: file.attrs.pop(attribute)


def _with(attribute: str, value: Any) -> Callable[[h5py.File], None]:  # noqa: ANN401  # whatever h5py takes
    return lambda file: file.attrs.__setitem__(attribute, value)


def _soft_link(file: h5py.File) -> None:
    file.move("patches", "elsewhere")
    file["patches"] = h5py.SoftLink("/elsewhere")


def _soft_link_loop(file: h5py.File) -> None:
    del file["patches"]
    file["patches"] = h5py.SoftLink("/patches")


def _external_link(file: h5py.File) -> None:
    other = str(Path(file.filename).with_name("other.h5"))
    with h5py.File(other, "w") as target:
        file.copy("patches", target)
    del file["patches"]
    file["patches"] = h5py.ExternalLink(other, "/patches")


def _external_group(file: h5py.File) -> None:
    other = str(Path(file.filename).with_name("other.h5"))
    with h5py.File(other, "w") as target:
        file.copy("index", target)
    del file["index"]
    file["index"] = h5py.ExternalLink(other, "/index")


def _external_storage(file: h5py.File) -> None:
    secret = Path(file.filename).with_name("secret")
    secret.write_bytes(b"s" * ROWS)
    del file["index/label"]
    file.create_dataset("index/label", (ROWS,), "int8", external=[(str(secret), 0, ROWS)])


def _virtual(file: h5py.File) -> None:
    layout = h5py.VirtualLayout((ROWS,), "int8")
    layout[:] = h5py.VirtualSource(str(Path(file.filename).with_name("other.h5")), "label", shape=(ROWS,))
    del file["index/label"]
    file.create_virtual_dataset("index/label", layout)


def _bomb(file: h5py.File) -> None:
    del file["patches"]
    file.create_dataset("patches", (2**40, SIDE_PX, SIDE_PX, 3), "uint8", chunks=(32, SIDE_PX, SIDE_PX, 3))
    for name, dtype in INDEX_DTYPES.items():
        del file[f"index/{name}"]
        file.create_dataset(f"index/{name}", (2**40,), dtype, chunks=(4096,))


def _overflowing_bomb(file: h5py.File) -> None:
    del file["patches"]
    file.create_dataset("patches", (2**62, SIDE_PX, SIDE_PX, 3), "uint8", chunks=(32, SIDE_PX, SIDE_PX, 3))


def _part_of_the_pixels(file: h5py.File) -> None:
    pixels = file["patches"][:32]
    del file["patches"]
    chunks = (32, SIDE_PX, SIDE_PX, 3)
    patches = file.create_dataset("patches", (ROWS, SIDE_PX, SIDE_PX, 3), "uint8", chunks=chunks)
    patches[:32] = pixels


def _huge_chunk(file: h5py.File) -> None:
    del file["patches"]
    rows = 1 << 20
    file.create_dataset("patches", (rows, SIDE_PX, SIDE_PX, 3), "uint8", chunks=(rows, SIDE_PX, SIDE_PX, 3))


def _unknown_filter(file: h5py.File) -> None:
    properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    properties.set_chunk((8,))
    properties.set_filter(32_768 + 999, h5py.h5z.FLAG_OPTIONAL)  # HDF5 would look for a plugin with this number
    del file["index/label"]
    space = h5py.h5s.create_simple((ROWS,))
    h5py.h5d.create(file["index"].id, b"label", h5py.h5t.STD_I8LE, space, dcpl=properties)


def _group_instead(file: h5py.File) -> None:
    del file["patches"]
    file.create_group("patches/deep")


HOSTILE: dict[str, tuple[Callable[[h5py.File], None], str]] = {
    "no patches": (lambda file: file.__delitem__("patches"), "has no patches of its own"),
    "no index": (lambda file: file.__delitem__("index"), "has no index/x_level0_px of its own"),
    "no column": (lambda file: file.__delitem__("index/label"), "has no index/label of its own"),
    "a group for patches": (_group_instead, "has no patches of type uint8"),
    "floats": (lambda file: _replace(file, "patches", np.zeros((ROWS, SIDE_PX, SIDE_PX, 3))), "of type uint8"),
    "objects": (lambda file: _replace(file, "index/label", [b"x"] * ROWS, dtype=h5py.string_dtype()), "of type int8"),
    "wide labels": (lambda file: _replace(file, "index/label", np.zeros(ROWS, np.int64)), "of type int8"),
    "grey": (lambda file: _replace(file, "patches", np.zeros((ROWS, SIDE_PX, SIDE_PX), np.uint8)), "of shape"),
    "other side": (lambda file: _replace(file, "patches", np.zeros((ROWS, 8, 8, 3), np.uint8)), "for a patch of 16 px"),
    "fewer labels": (lambda file: _replace(file, "index/label", np.zeros(ROWS - 1, np.int8)), "values of label"),
    "scalar": (lambda file: _replace(file, "index/label", np.int8(1)), "values of label"),
    "labels of no class": (lambda file: _replace(file, "index/label", np.full(ROWS, 7, np.int8)), "labels other than"),
    "gzip": (
        lambda file: _replace(file, "patches", np.zeros((ROWS, SIDE_PX, SIDE_PX, 3), np.uint8), compression="gzip"),
        "keeps patches behind a filter",
    ),
    "shuffle": (
        lambda file: _replace(file, "index/label", np.zeros(ROWS, np.int8), chunks=(8,), shuffle=True),
        "keeps index/label behind a filter",
    ),
    "a filter that nobody knows": (_unknown_filter, "keeps index/label behind a filter"),
    "a huge chunk": (_huge_chunk, "bytes of patches and holds 0"),
    "soft link": (_soft_link, "has no patches of its own"),
    "soft link to itself": (_soft_link_loop, "has no patches of its own"),
    "external link": (_external_link, "has no patches of its own"),
    "external group": (_external_group, "has no index/x_level0_px of its own"),
    "external storage": (_external_storage, "keeps index/label behind a filter or in other files"),
    "virtual": (_virtual, "keeps index/label behind a filter or in other files"),
    "bomb": (_bomb, "states 844424930131968 bytes of patches and holds 0"),
    "overflowing bomb": (_overflowing_bomb, "bytes of patches and holds 0"),
    "chunks": (
        lambda file: _replace(file, "patches", plain_batch(ROWS).pixels, chunks=(8, SIDE_PX, SIDE_PX, 3)),
        "does not hold /patches in one piece",
    ),
    "part of the pixels": (_part_of_the_pixels, "bytes of patches and holds 24576"),
    "no schema": (_without("schema"), r"attributes: format"),
    "newer schema": (_with("schema", "camnet-patches/2"), r"attributes: format"),
    "no mpp": (_without("mpp"), r"attributes: mpp"),
    "mpp of nothing": (_with("mpp", 0.0), r"attributes: mpp"),
    "BGR": (_with("colour_order", "BGR"), r"attributes: colour_order"),
    "more attributes": (_with("colour", "blue"), r"attributes: colour"),
    "a list for a name": (_with("slide", [1, 2, 3]), r"is damaged"),
    "empty attribute": (_with("slide", h5py.Empty("f")), r"attributes: slide"),
    "another side": (_with("patch_px", 32), "for a patch of 32 px"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_file_that_is_not_what_the_schema_says_is_refused_before_its_data_is_read(
    shard: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    change, said = HOSTILE[name]
    with h5py.File(shard, "r+") as file:
        change(file)
    read: list[str] = []
    plain_read = h5py.Dataset.__getitem__

    def noted(dataset: h5py.Dataset, *arguments: Any) -> Any:  # noqa: ANN401  # as h5py's own
        read.append(dataset.name)
        return plain_read(dataset, *arguments)

    monkeypatch.setattr(h5py.Dataset, "__getitem__", noted)
    with pytest.raises(IntegrityError, match=said) as caught:
        open_shard(shard)
    assert caught.value.subject == str(shard)
    assert "make the shard again" in str(caught.value.remedy)
    assert "/patches" not in read
    assert ("/index/label" in read) == (name == "labels of no class")
    shard.rename(shard.with_suffix(".moved"))  # and it is closed: HDF5 would refuse to open it for writing
    with h5py.File(shard.with_suffix(".moved"), "r+"):
        pass


OPEN_FOR_WRITING = """
import os, sys, h5py
with h5py.File(sys.argv[1], "r") as shard, h5py.File(sys.argv[2], "w", libver="latest") as file:
    for name, value in shard.attrs.items():
        file.attrs[name] = value
    for name in shard:
        shard.copy(name, file)
file = h5py.File(sys.argv[2], "r+", libver="latest")
file.flush()
os._exit(0)  # the mark of a writer stays in the file
"""


def test_a_file_that_was_left_open_for_writing_is_refused(shard: Path) -> None:
    left = shard.with_name("left.h5")
    subprocess.run([sys.executable, "-c", OPEN_FOR_WRITING, str(shard), str(left)], check=True)
    with pytest.raises(OSError, match="already open for write"), h5py.File(left, "r"):
        pass
    with pytest.raises(IntegrityError, match="open for write") as caught:
        open_shard(left)
    assert "make the shard again" in str(caught.value.remedy)


def test_the_pixels_are_plain_hdf5_in_one_piece(shard: Path) -> None:
    with h5py.File(shard, "r") as file:
        assert file["patches"].chunks is None
        assert np.array_equal(file["patches"][:], plain_batch(ROWS).pixels)
    bulk = plain_batch(ROWS).pixels.nbytes
    assert shard.stat().st_size < bulk + 16384


def test_pixels_that_lie_outside_of_the_file_are_refused(shard: Path) -> None:
    with h5py.File(shard, "r") as file:
        place, size = file["patches"].id.get_offset(), file["patches"].nbytes
    data = bytearray(shard.read_bytes())
    where = data.find(place.to_bytes(8, "little") + size.to_bytes(8, "little"))
    assert where > 0
    data[where : where + 8] = (1 << 40).to_bytes(8, "little")
    shard.write_bytes(data)
    with pytest.raises(IntegrityError, match=r"one piece|is damaged") as caught:
        open_shard(shard)
    assert caught.value.subject == str(shard)


def test_damage_that_is_met_while_reading_is_named(shard: Path) -> None:
    with open_shard(shard) as opened:
        os.truncate(shard, shard.stat().st_size // 2)
        with pytest.raises(IntegrityError, match="is damaged") as caught:
            opened.read(np.arange(ROWS))
    assert caught.value.subject == str(shard)


def test_flipped_bits_of_the_structure_are_integrity_errors_or_harmless(tmp_path: Path, shard: Path) -> None:
    data = shard.read_bytes()
    structure = [at for at in range(2048) if data[at]]
    refused = 0
    for at in structure:
        (tmp_path / "flipped.h5").write_bytes(data[:at] + bytes([data[at] ^ 0x01]) + data[at + 1 :])
        try:
            open_shard(tmp_path / "flipped.h5").close()
        except IntegrityError:
            refused += 1
    assert refused > 20
