from __future__ import annotations

from pathlib import Path

import pytest

from tasks.errors import InputError
from tasks.patches.shards.find import find_shards, shard_stem


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in (
        "b.patches.h5",
        "a.patches.h5",
        "deep/c.patches.h5",
        ".deep/d.patches.h5",
        "deep/.e.patches.h5",
        "f.h5",
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    return tmp_path


def test_folders_are_searched_and_files_taken_as_they_are_named(folder: Path) -> None:
    names = ["a.patches.h5", "b.patches.h5", "deep/c.patches.h5"]
    assert find_shards([folder]) == [folder / name for name in names]
    assert find_shards([folder / "f.h5", folder / "b.patches.h5", folder]) == [
        folder / name for name in ("f.h5", "b.patches.h5", "a.patches.h5", "deep/c.patches.h5")
    ]


@pytest.mark.parametrize(("name", "said"), [("none", "is not there"), ("empty", "holds no shard")])
def test_a_path_without_shards_is_named(folder: Path, name: str, said: str) -> None:
    (folder / "empty").mkdir()
    with pytest.raises(InputError, match=said) as caught:
        find_shards([folder, folder / name])
    assert caught.value.subject == str(folder / name)


@pytest.mark.parametrize(("name", "stem"), [("a.b.patches.h5", "a.b"), ("a.h5", "a"), ("a.hdf5", "a.hdf5")])
def test_a_stem_is_the_name_without_its_kind(name: str, stem: str) -> None:
    assert shard_stem(Path("folder", name)) == stem
