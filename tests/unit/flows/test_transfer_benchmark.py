"""The tables and the trend of a transfer benchmark, from made trials."""

from __future__ import annotations

from pathlib import Path

import pytest

from flows.transfer_benchmark import grids
from flows.transfer_benchmark.report import REPORT, write_transfer_report
from flows.transfer_benchmark.trend import ROUNDS, round_rates, trend_grid
from tasks import atomic
from tests.services.html_page import Page
from transfer.benchmark import Cell, Trial, trial_line

MB = 10**6


def trial(seconds: float, **more: object) -> Trial:
    """One from a to b: 8 Mb in so many seconds; `more` of the cell or of the trial."""
    cell = {"kind": "size", "source": "a", "destination": "b", "protocol": "scp", "file_bytes": MB, "streams": 4}
    told = {"repeat": 1, "start": "2026-11-02T03:17:00+00:00", "seconds": seconds}
    told |= {name: value for name, value in more.items() if name in Trial.model_fields}
    cell |= {name: value for name, value in more.items() if name in Cell.model_fields}
    return Trial.model_validate({**told, "cell": cell})


def keep_round(folder: Path, name: str, *trials: Trial) -> None:
    for one in trials:
        atomic.append_line(folder / ROUNDS / name, one.model_dump_json().encode())


def test_rates_stand_between_sites_in_both_directions_with_their_interval() -> None:
    there = [trial(1, repeat=1), trial(2, repeat=2), trial(4, repeat=3)]
    back = trial(0.5, source="b", destination="a")
    smaller = trial(9, file_bytes=MB // 2)
    assert grids.table_five([*there, back, smaller]).records == [
        {"protocol": "scp", "file": "1.00 MB", "from": "a", "to a": "—", "to b": "4.00 (2.00 to 8.00)", "repeats": "3"},
        {"protocol": "scp", "file": "1.00 MB", "from": "b", "to a": "16.0", "to b": "—", "repeats": "1"},
    ]


def test_what_failed_has_no_time_and_no_rate() -> None:
    lost = trial(0, error="lost")
    (row,) = grids.sizes_grid([lost]).records
    assert (row["Mb/s"], row["median s"]) == ("failed", "failed")
    assert grids.failures_grid([lost]).records[0]["error"] == "lost"
    assert trial_line(lost).endswith("repeat 1: failed: lost")
    assert trial_line(trial(2, repeat=0)) == "a to b, scp, 1 files of 1000000 bytes, warm-up: 2.00 s, 4.0 Mb/s"


def test_the_trend_compares_files_of_one_size_from_round_to_round(tmp_path: Path) -> None:
    keep_round(tmp_path, "2026-11-02.jsonl", trial(2), trial(9, repeat=0), trial(9, file_bytes=MB // 2))
    keep_round(tmp_path, "2026-11-09.jsonl", trial(1, file_bytes=2 * MB, start="2026-11-09T03:17:00+00:00"))
    found = round_rates(tmp_path, [trial(1, start="2026-11-16T03:17:00+00:00"), trial(9, error="lost")])
    assert [(one.number, one.file_bytes, one.rate.median) for one in found] == [(1, MB, 4), (2, 2 * MB, 16), (3, MB, 8)]
    told = [(row["round"], row["start (UTC)"], row["file"], row["Mb/s"], row["change"])
            for row in trend_grid(found).records]  # fmt: skip
    assert told == [
        ("3", "2026-11-16 03:17", "1.00 MB", "8.00", "+100 %"),
        ("1", "2026-11-02 03:17", "1.00 MB", "4.00", ""),
        ("2", "2026-11-09 03:17", "2.00 MB", "16.0", ""),
    ]
    assert trend_grid(found[:1]).rows == ()


@pytest.mark.parametrize("trials", [[], [trial(0, error="<b>lost</b>")]])
def test_a_report_without_a_rate_says_so_in_each_table(tmp_path: Path, trials: list[Trial]) -> None:
    data = write_transfer_report(trials, tmp_path, round_trips={}, machine="here")
    page = Page((tmp_path / REPORT).read_text())
    assert [found["id"] for found in page.all("section") if "id" in found] == [grid.key for grid in data.grids]
    for grid in data.grids:
        assert grid.rows or grid.absent in page.section(grid.key)
    assert ("<b>lost</b>" in page.section("transfer-benchmark-failures")) is bool(trials)
    assert page.leaks() == []


def test_a_report_tells_how_busy_the_machine_was_before_the_trials_that_count(tmp_path: Path) -> None:
    trials = [trial(1, load=4.04), trial(1, repeat=2, load=0.2), trial(1, repeat=3), trial(1, repeat=0, load=9)]
    facts = dict(write_transfer_report(trials, tmp_path, round_trips={}, machine="here").facts)
    assert facts["Load of that machine before a trial"].startswith("0.2 to 4.0 ")
    facts = dict(write_transfer_report([trial(1)], tmp_path, round_trips={}, machine="here").facts)
    assert facts["Load of that machine before a trial"] == "unknown"
