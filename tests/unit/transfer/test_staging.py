"""Folders in which files wait for other names."""

from __future__ import annotations

from pathlib import Path

from transfer.carrier import Load
from transfer.staging import lay_out, staging_folder, sweep_staging


def test_links_have_the_names_of_the_partial_files(tmp_path: Path) -> None:
    (tmp_path / "a b.bin").write_bytes(b"abc")
    links = lay_out([Load("a b.bin", "deep/er/.x.camnet-part", 3, 0, 3)], tmp_path, tmp_path / "links")
    assert (links / "deep/er/.x.camnet-part").read_bytes() == b"abc"


def test_a_folder_is_there_as_long_as_it_is_needed(tmp_path: Path) -> None:
    with staging_folder(tmp_path) as folder:
        (folder / "sub").mkdir()
        (folder / "sub/a.bin").write_bytes(b"abc")
        assert folder.parent == tmp_path
    assert list(tmp_path.iterdir()) == []


def test_entering_sweeps_and_each_has_its_own(tmp_path: Path) -> None:
    (tmp_path / ".camnet-dead.staging").mkdir()
    with staging_folder(tmp_path) as one, staging_folder(tmp_path) as other:
        assert sorted(tmp_path.iterdir()) == sorted({one, other})
    assert list(tmp_path.iterdir()) == []


def test_only_what_the_dead_left_is_swept(tmp_path: Path) -> None:
    dead, other, link = tmp_path / ".camnet-dead.staging", tmp_path / ".camnet-file.staging", tmp_path / "outside"
    dead.mkdir()
    (dead / "a.bin").write_bytes(b"abc")
    other.write_bytes(b"a file")
    link.mkdir()
    (tmp_path / ".camnet-link.staging").symlink_to(link)
    with staging_folder(tmp_path) as living:
        sweep_staging(tmp_path)
        assert living.is_dir()
    assert not dead.exists()
    assert other.exists()
    assert link.is_dir()
