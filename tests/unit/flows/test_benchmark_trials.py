"""What the benchmarks of all layers share: order, trials, conditions, the folder of their own, records of tables."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from flows.benchmark.conditions import CONDITIONS, keep_conditions
from flows.benchmark.order import in_random_order
from flows.benchmark.own_folder import own_folder
from flows.benchmark.trials import last_trials, missing_trials
from tasks.artifacts import Record
from tasks.errors import InputError
from tasks.report.benchmark_data import Grid


class Trial(Record):
    cell: str
    repeat: int
    error: str | None = None


class Conditions(Record):
    machine: str


def test_every_round_has_every_cell_once_in_its_own_order() -> None:
    cells = list(range(9))
    order = in_random_order([*cells, cells[0]], repeats=3, seed=1)
    assert [cell for cell, repeat in order if repeat == 0] == cells
    rounds = [[cell for cell, repeat in order if repeat == number] for number in (1, 2, 3)]
    assert all(sorted(found, key=cells.index) == cells for found in rounds)
    assert rounds[0] != rounds[1]
    assert in_random_order(cells, repeats=3, seed=1) == order
    assert [repeat for _, repeat in order] == sorted(repeat for _, repeat in order)


def test_what_failed_is_missing_and_the_last_trial_counts() -> None:
    order = [("b", 1), ("a", 1), ("a", 2)]
    trials = [Trial(cell="a", repeat=1), Trial(cell="b", repeat=1, error="lost"), Trial(cell="c", repeat=1)]
    assert missing_trials(order, trials) == [("b", 1), ("a", 2)]
    assert last_trials(order, trials) == [trials[1], trials[0]]
    again = Trial(cell="b", repeat=1)
    assert missing_trials(order, [*trials, again]) == [("a", 2)]
    assert last_trials(order, [*trials, again]) == [again, trials[0]]


def test_a_folder_keeps_the_conditions_of_its_measurements(tmp_path: Path) -> None:
    out = tmp_path / "out"
    keep_conditions(out, Conditions(machine="one"), "machine")
    written = (out / CONDITIONS).read_text()
    keep_conditions(out, Conditions(machine="one"), "machine")
    with pytest.raises(InputError, match=r"other conditions \(machine\)"):
        keep_conditions(out, Conditions(machine="two"), "machine")
    assert (out / CONDITIONS).read_text() == written


def test_the_folder_of_a_benchmark_is_its_own_and_gone_afterwards(tmp_path: Path) -> None:
    with own_folder(tmp_path, Path("/out/1")) as folder:
        folder.mkdir()
        (folder / "made").touch()
    assert list(tmp_path.iterdir()) == []
    folder.mkdir()
    (folder / "left by one that was killed").touch()
    with own_folder(tmp_path, Path("/out/1")) as again, own_folder(tmp_path, Path("/out/2")) as other:
        assert folder == again != other
        assert not again.exists()


def test_equal_headings_are_told_apart_in_records() -> None:
    grid = Grid(key="a-b", title="", lead="", headings=("s", "most", "Gb/s", "most"), rows=(("1", "2", "3", "4"),))
    assert grid.records == [{"s": "1", "most": "2", "Gb/s": "3", "most (2)": "4"}]
    with pytest.raises(ValidationError, match="key"):
        Grid(key="A b", title="", lead="", headings=(), rows=())
