"""Nothing is decided by the clock on the wall or by times of files: sites do not agree about either."""

from __future__ import annotations

import ast
import time
from pathlib import Path

import pytest

from tests.services.sshd_route import random_bytes, route_of
from transfer.ledger import Ledger, LedgerRow, measured, utc_now
from transfer.model import TransferOptions
from transfer.summary import route_totals

REPOSITORY = Path(__file__).resolve().parents[3]
WALL_CLOCKS = {"st_mtime", "st_mtime_ns", "st_ctime", "st_ctime_ns", "getmtime", "getctime", "utcnow", "now", "today"}
ALLOWED = {
    # Told to people, and never compared.
    "transfer/ledger.py": "the start of an attempt",
    "flows/run_state.py": "the start of a run",
    "flows/transfer_benchmark/flow.py": "the start of a round",
    "flows/preprocess_benchmark/trial.py": "the start of a trial",
    "flows/training_benchmark/trial.py": "the start of a trial; from it to an event of its rank, on one machine",
    "tasks/training/log.py": "the time of an event",
    "flows/slurm_watch.py": "which log of a job that failed is shown",
    # Compared for equality only: whether a file is the same as before.
    "tasks/digests.py": "the stamp of a file whose digest is known",
    "tasks/training/arriving.py": "whether a shard that was damaged was written anew",
    "tasks/training/allocation.py": "whether a file was written anew",
    # Within one machine, or wider than clocks differ.
    "tasks/training/rank_error.py": "which of the ranks of one job ended first",
    "transfer/globus_task.py": "a deadline of hours",
    "transfer/streams/data_port.py": "a certificate that is valid from the day before",
}


def reads_the_wall_clock(path: Path) -> bool:
    nodes = list(ast.walk(ast.parse(path.read_text())))
    attributes = {node.attr for node in nodes if isinstance(node, ast.Attribute)}
    calls = {ast.unparse(node.func) for node in nodes if isinstance(node, ast.Call)}
    return bool(attributes & WALL_CLOCKS) or bool(
        calls & {"time.time", "time.time_ns", "time.gmtime", "time.localtime"}
    )


def test_the_wall_clock_is_read_where_that_decides_nothing() -> None:
    rooms = ("tasks", "transfer", "flows", "deployments")
    files = [path for room in rooms for path in sorted((REPOSITORY / room).rglob("*.py"))]
    found = {path.relative_to(REPOSITORY).as_posix() for path in files if reads_the_wall_clock(path)}
    assert found == set(ALLOWED)


@pytest.mark.parametrize("step_s", [-7200.0, 7200.0])
def test_a_clock_that_is_set_in_the_middle_changes_no_duration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step_s: float
) -> None:
    route = route_of(tmp_path / "sites", "local", None)
    route.put({"a.bin": random_bytes(1_000_000)})
    wall, shift_s = time.time, 0.0
    monkeypatch.setattr(time, "time", lambda: wall() + shift_s)

    def set_clock(path: str, arrived_bytes: int) -> None:
        nonlocal shift_s
        shift_s = step_s

    began_s = time.monotonic()
    route.move(route.batch("a.bin"), TransferOptions(chunk_bytes=1 << 16, limit_mb_per_s=4.0), set_clock)
    took_s = time.monotonic() - began_s
    (row,) = route.ledger.read()
    assert 0.15 < row.wire_seconds < took_s
    assert row.megabits_per_s == pytest.approx(8 / row.wire_seconds)
    assert row.flag is None


def row(**changes: object) -> LedgerRow:
    facts = {"start": utc_now(), "run": "r", "source": "s", "destination": "d", "protocol": "sftp", "streams": 1}
    return LedgerRow.model_validate(facts | {"path": "a", "file_bytes": 1000, "outcome": "done"} | changes)


@pytest.mark.parametrize("seconds", [0.0, -0.5])
def test_bytes_in_no_time_are_flagged_and_have_no_rate(seconds: float) -> None:
    assert measured(1000, seconds) == {"megabits_per_s": None, "flag": "no time"}
    assert measured(0, seconds) == {"megabits_per_s": None, "flag": None}
    assert measured(1_000_000, 0.5) == {"megabits_per_s": pytest.approx(16.0), "flag": None}


def test_a_flagged_row_counts_for_no_rate(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.jsonl")
    ledger.append(row(wire_bytes=1_000_000, wire_seconds=0.5, **measured(1_000_000, 0.5)))
    ledger.append(row(path="b", wire_bytes=10**12, **measured(10**12, 0.0)))
    assert [one.flag for one in ledger.read()] == [None, "no time"]
    (totals,) = route_totals(ledger.read())
    assert totals.aggregate_megabits_per_s == pytest.approx(16.0)
    assert totals.median_megabits_per_s == pytest.approx(16.0)
    assert totals.wire_bytes == 10**12 + 10**6


def test_a_row_with_a_negative_interval_is_told_and_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    ledger = Ledger(tmp_path / "ledger.jsonl")
    ledger.append(row())
    line = ledger.path.read_text().replace('"wire_seconds":0.0', '"wire_seconds":-3.0')
    with ledger.path.open("a") as file:
        file.write(line)
    assert len(ledger.read()) == 1
    assert "1 rows cannot be read and were left out" in caplog.text
