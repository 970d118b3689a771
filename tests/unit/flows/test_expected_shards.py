from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from flows.expected_shards import announce, expected_shards, wait_for_expected
from tasks.digests import file_digest
from tasks.errors import InputError, RetryableFault
from tests.services.texture_shards import TextureShard, write_texture_shard
from transfer.manifest import manifest_of, read_manifest, write_manifest


def made(folder: Path, *kinds: TextureShard) -> Path:
    """Shards of random patches, an empty one and a thumbnail, with their manifest."""
    shards = [write_texture_shard(folder / "sampled", kind) for kind in kinds]
    (folder / "thumbnail.png").write_bytes(b"picture")
    files = [
        (f"sampled/{shard.path.name}", "patches", len(kind.labels), shard.digest)
        for shard, kind in zip(shards, kinds, strict=True)
    ]
    manifest = manifest_of(folder, [*files, ("thumbnail.png", "thumbnail", None, None)], run="r", site="site-a")  # type: ignore[list-item]  # literals of a tuple
    write_manifest(folder / "manifest.json", manifest)
    return folder / "manifest.json"


def test_the_list_has_the_sampled_shards_of_the_manifest_with_their_splits(tmp_path: Path) -> None:
    path = made(
        tmp_path, TextureShard("patient_000", "train", (1, 0, -1)), TextureShard("patient_001", "validation", (1,))
    )
    expected = expected_shards(path)
    assert [(shard.patient, shard.split, shard.tumour_rows, shard.normal_rows) for shard in expected.shards] == [
        ("patient_000", "train", 1, 1),
        ("patient_001", "validation", 1, 0),
    ]
    named = {entry.path: entry for entry in read_manifest(path).entries}
    assert all((named[one.path].bytes, named[one.path].digest) == (one.bytes, one.digest) for one in expected.shards)
    assert expected.manifest_digest == read_manifest(path).digest


def test_a_patient_in_two_splits_is_refused_before_anything_moves(tmp_path: Path) -> None:
    path = made(tmp_path, TextureShard("patient_000", "train", (1, 0)), TextureShard("patient_000", "test", (1, 0)))
    with pytest.raises(InputError, match=r"patient_000 \(test and train\)"):
        announce(path)
    assert not path.with_name("expected.json").exists()


def test_the_list_that_was_sent_is_found_before_manifest_and_shards(tmp_path: Path) -> None:
    path = made(tmp_path / "a", TextureShard("patient_000", "train", (1, 0)))
    entry = announce(path)
    there = tmp_path / "b"
    there.mkdir()
    with pytest.raises(RetryableFault, match="did not come in 0 s"):
        wait_for_expected(there, file_digest(path), patience_s=0.0)
    shutil.copy(path.with_name(entry.path), there)
    assert file_digest(there / entry.path) == entry.digest
    assert wait_for_expected(there, file_digest(path), patience_s=0.0) == expected_shards(path)


def test_a_list_of_another_manifest_does_not_count_and_a_whole_manifest_does(tmp_path: Path) -> None:
    old = made(tmp_path / "old", TextureShard("patient_000", "train", (1, 0)))
    new = made(tmp_path / "new", TextureShard("patient_001", "train", (1, 0)))
    announce(old)
    shutil.copy(old.with_name("expected.json"), new.parent)
    with pytest.raises(RetryableFault, match="is of another manifest"):
        wait_for_expected(new.parent, "sha256:0", patience_s=0.0)
    assert wait_for_expected(new.parent, file_digest(new), patience_s=0.0) == expected_shards(new)
