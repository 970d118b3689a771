from __future__ import annotations

import os
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from tasks.errors import RetryableFault
from transfer.journal import Journal, Target, arrived_ranges

TARGET = Target("site-b", "/data", "sub/a.bin", 100, "sha256:" + "0" * 64)


def test_what_arrived_is_remembered_and_what_was_begun_is_counted(tmp_path: Path) -> None:
    with closing(Journal(tmp_path, TARGET)) as journal:
        assert journal.begin((0, 10)) == 0
        assert journal.arrive((0, 10)) == 10
        assert journal.begin((10, 10)) == 0
    with closing(Journal(tmp_path, TARGET)) as journal:
        assert journal.arrived == [(0, 10)]
        assert journal.begin((10, 20)) == 10
        journal.restart()
    with closing(Journal(tmp_path, TARGET)) as journal:
        assert (journal.arrived, journal.begun) == ([], [(0, 30)])
        journal.discard()
    assert list(tmp_path.iterdir()) == []


def test_what_is_damaged_is_forgotten_and_stays_counted(tmp_path: Path) -> None:
    with closing(Journal(tmp_path, TARGET)) as journal:
        journal.begin((0, 90))
        journal.arrive((0, 90))
        journal.forget([(20, 10), (85, 15)])
    with closing(Journal(tmp_path, TARGET)) as journal:
        assert (journal.arrived, journal.begun) == ([(0, 20), (30, 55)], [(0, 90)])


def test_lines_after_a_torn_one_are_not_believed(tmp_path: Path) -> None:
    with closing(Journal(tmp_path, TARGET)) as journal:
        journal.arrive((0, 10))
    (file,) = tmp_path.iterdir()
    with file.open("ab") as torn:
        torn.write(b'{"arrived": [10, \n{"arrived": [50, 10]}\n')
    for _ in range(2):
        with closing(Journal(tmp_path, TARGET)) as journal:
            assert journal.arrived == [(0, 10)]


def test_lines_that_are_there_twice_count_once(tmp_path: Path) -> None:
    with closing(Journal(tmp_path, TARGET)) as journal:
        journal.begin((0, 20))
        journal.arrive((0, 10))
    (file,) = tmp_path.iterdir()
    head, *lines = file.read_text().splitlines(keepends=True)
    file.write_text(head + "".join(line * 2 for line in lines) + lines[-1])
    for _ in range(2):
        with closing(Journal(tmp_path, TARGET)) as journal:
            assert (journal.arrived, journal.begun) == ([(0, 10)], [(0, 20)])
            assert arrived_ranges(tmp_path, TARGET) == [(0, 10)]
    file.write_text((head + "".join(lines)) * 2)  # a second head is no fact, and what follows it is not believed
    with closing(Journal(tmp_path, TARGET)) as journal:
        assert (journal.arrived, journal.begun) == ([(0, 10)], [(0, 20)])


@pytest.mark.parametrize(
    "line", ['{"arrived": [0, 101]}', '{"arrived": [-5, 6]}', '{"arrived": "all"}', "[]", "{}", "7"]
)
def test_ranges_that_the_file_does_not_have_are_not_believed(tmp_path: Path, line: str) -> None:
    Journal(tmp_path, TARGET).close()
    (file,) = tmp_path.iterdir()
    with file.open("a") as edited:
        edited.write(line + "\n")
    with closing(Journal(tmp_path, TARGET)) as journal:
        assert journal.arrived == []


def test_another_version_starts_anew_and_names_the_partial_to_remove(tmp_path: Path) -> None:
    with closing(Journal(tmp_path, TARGET)) as journal:
        journal.arrive((0, 10))
    newer = replace(TARGET, digest="sha256:" + "1" * 64)
    with closing(Journal(tmp_path, newer)) as journal:
        assert journal.arrived == []
        assert journal.stale_partial == TARGET.partial
    assert newer.partial != TARGET.partial


def test_the_partial_lies_beside_the_final_file_and_its_name_fits_any_file_system() -> None:
    partial = replace(TARGET, path="sub/" + "ä" * 120).partial
    assert partial.startswith("sub/.")
    assert len(partial.rpartition("/")[2].encode()) < 64


@pytest.mark.parametrize("flushed", [True, False])
def test_what_is_acknowledged_outlives_the_machine_where_there_is_something_to_go_on_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flushed: bool
) -> None:
    synced: list[bytes] = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: synced.append(os.pread(descriptor, 4096, 0)))
    with closing(Journal(tmp_path, TARGET, flushed=flushed)) as journal:
        journal.begin((0, 10))
        journal.arrive((0, 10))
    assert [b'"arrived": [0, 10]' in content for content in synced] == ([False, True] if flushed else [])


def test_a_journal_is_locked(tmp_path: Path) -> None:
    with closing(Journal(tmp_path, TARGET)), pytest.raises(RetryableFault, match="another process"):
        Journal(tmp_path, TARGET)
    Journal(tmp_path, TARGET).close()
