from __future__ import annotations

import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest

from tasks.errors import InputError, IntegrityError
from tasks.patches.shards.link import link_shards
from tasks.patches.store import INDEX_DTYPES, open_shard, write_shard
from tests.services.exported_shards import coloured, write_coloured

LABELS = [[1, 0, 0], [], [0, -1, 1, 1, 0]]


@pytest.fixture
def shards(tmp_path: Path) -> list[Path]:
    folder = tmp_path / "set" / "deep"
    folder.mkdir(parents=True)
    return [
        write_coloured(folder / f"{number}.patches.h5", labels, slide=f"slide {number}", mpp=0.25 * (number + 1))
        for number, labels in enumerate(LABELS)
    ]


def test_h5py_opens_all_shards_as_one(shards: list[Path], tmp_path: Path) -> None:
    linked = link_shards(shards, tmp_path / "set" / "all.h5")
    assert (linked.shards, linked.rows) == (3, 8)
    with h5py.File(linked.path) as file:
        assert file["patches"].shape == (8, 16, 16, 3)
        assert np.array_equal(file["patches"][:], np.concatenate([coloured(3), coloured(5)]))
        assert np.array_equal(file["patches"][2:5], np.concatenate([coloured(3)[2:], coloured(5)[:2]]))
        assert file["shard"][:].tolist() == [0, 0, 0, 2, 2, 2, 2, 2]
        assert file["row"][:].tolist() == [0, 1, 2, 0, 1, 2, 3, 4]
        assert file["index/label"][:].tolist() == [1, 0, 0, 0, -1, 1, 1, 0]
        assert file["shards/slide"].asstr()[:].tolist() == ["slide 0", "slide 1", "slide 2"]
        assert file["shards/path"].asstr()[:].tolist() == [f"deep/{number}.patches.h5" for number in range(3)]
        assert file["shards/mpp"][:].tolist() == [0.25, 0.5, 0.75]
        for number, path in enumerate(shards):
            rows = file["shard"][:] == number
            with open_shard(path) as shard:
                for name, dtype in INDEX_DTYPES.items():
                    assert file[f"index/{name}"].dtype == dtype
                    assert np.array_equal(file[f"index/{name}"][rows], getattr(shard, name), equal_nan=True)


def test_the_folder_can_be_moved_and_used_from_anywhere(
    shards: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    link_shards(shards, tmp_path / "set" / "all.h5")
    shutil.move(tmp_path / "set", tmp_path / "moved")
    for folder in (tmp_path, tmp_path / "moved", Path("/")):
        monkeypatch.chdir(folder)
        with h5py.File(tmp_path / "moved" / "all.h5") as file:
            assert np.array_equal(file["patches"][3:], coloured(5))


def test_a_link_over_a_symbolic_link_leads_to_the_shards(shards: list[Path], tmp_path: Path) -> None:
    (tmp_path / "alias").symlink_to(tmp_path / "set")
    link_shards([tmp_path / "alias" / "deep" / path.name for path in shards], tmp_path / "set" / "all.h5")
    (tmp_path / "alias").unlink()
    with h5py.File(tmp_path / "set" / "all.h5") as file:
        assert np.array_equal(file["patches"][3:], coloured(5))


def test_our_own_reader_refuses_it(shards: list[Path], tmp_path: Path) -> None:
    linked = link_shards(shards, tmp_path / "set" / "all.h5")
    with pytest.raises(IntegrityError, match="is no CamNet shard"):
        open_shard(linked.path)
    with h5py.File(shards[0]) as shard, h5py.File(linked.path, "r+") as file:
        for name in list(file.attrs):
            del file.attrs[name]
        file.attrs.update(dict(shard.attrs))
    with pytest.raises(IntegrityError, match="keeps patches behind a filter or in other files"):
        open_shard(linked.path)


def test_the_same_shards_give_the_same_bytes(shards: list[Path], tmp_path: Path) -> None:
    first = link_shards(shards, tmp_path / "set" / "all.h5").path.read_bytes()
    assert link_shards(shards, tmp_path / "set" / "all.h5").path.read_bytes() == first


def test_a_shard_that_lies_elsewhere_is_refused(shards: list[Path], tmp_path: Path) -> None:
    with pytest.raises(InputError, match="lies neither beside nor below"):
        link_shards(shards, tmp_path / "other" / "all.h5")
    assert not (tmp_path / "other" / "all.h5").exists()


def test_patches_of_another_size_are_refused(shards: list[Path], tmp_path: Path) -> None:
    other = shards[0].with_name("other.patches.h5")
    with open_shard(shards[0]) as shard:
        attributes = shard.attributes.model_copy(update={"patch_px": 24})
    with write_shard(other, attributes):
        pass
    with pytest.raises(InputError, match="has patches of 24 px, the first shard of 16 px") as caught:
        link_shards([*shards, other], tmp_path / "set" / "all.h5")
    assert caught.value.subject == str(other)
    assert not (tmp_path / "set" / "all.h5").exists()


def test_a_shard_without_an_array_of_pixels_is_refused(shards: list[Path], tmp_path: Path) -> None:
    jpeg = write_coloured(shards[0].with_name("jpeg.patches.h5"), [0], encoding="jpeg")
    with pytest.raises(InputError, match="is stored as jpeg") as caught:
        link_shards([*shards, jpeg], tmp_path / "set" / "all.h5")
    assert caught.value.subject == str(jpeg)
    assert not (tmp_path / "set" / "all.h5").exists()


def test_another_file_is_not_replaced(shards: list[Path]) -> None:
    before = shards[0].read_bytes()
    for name in (shards[0].name, "text"):
        destination = shards[0].with_name(name)
        if name == "text":
            destination.write_text("mine")
        with pytest.raises(InputError, match="links no shards"):
            link_shards(shards, destination)
    assert shards[0].read_bytes() == before
    assert shards[0].with_name("text").read_text() == "mine"


def test_a_damaged_shard_leaves_no_link(shards: list[Path], tmp_path: Path) -> None:
    shards[2].write_bytes(shards[2].read_bytes()[:-50])
    with pytest.raises(IntegrityError) as caught:
        link_shards(shards, tmp_path / "set" / "all.h5")
    assert caught.value.subject == str(shards[2])
    assert not (tmp_path / "set" / "all.h5").exists()
