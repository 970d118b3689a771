from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from pydantic import ValidationError

from tasks.errors import InputError
from transfer.ledger import Ledger, LedgerRow, megabits_per_s, utc_now
from transfer.summary import route_totals


def row(path: str = "a", **changes: object) -> LedgerRow:
    base = {"start": utc_now(), "run": "r", "source": "s", "destination": "d", "protocol": "sftp", "streams": 1}
    return LedgerRow.model_validate({**base, "path": path, "file_bytes": 1000, "outcome": "done", **changes})


def test_rows_come_back_in_order(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "new" / "ledger.jsonl")
    rows = [row(f"{number}", error="ümläut\n") for number in range(5)]
    for one in rows:
        ledger.append(one)
    assert ledger.read() == rows


def test_a_missing_ledger_is_empty(tmp_path: Path) -> None:
    assert Ledger(tmp_path / "ledger.jsonl").read() == []


def test_many_writers_do_not_mix_their_rows(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: Ledger(path).append(row(f"{number}", error="x" * 3000)), range(200)))
    assert sorted(int(one.path) for one in Ledger(path).read()) == list(range(200))


def test_a_torn_row_costs_only_itself(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    ledger = Ledger(tmp_path / "ledger.jsonl")
    ledger.append(row("before"))
    with ledger.path.open("ab") as file:
        file.write(b'{"start": "2026-')
    ledger.append(row("after"))
    with caplog.at_level(logging.WARNING):
        assert [one.path for one in ledger.read()] == ["before", "after"]
    assert "1 rows cannot be read" in caplog.text


def test_a_ledger_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "ledger.jsonl").mkdir()
    with pytest.raises(InputError, match=r"ledger.jsonl: cannot be written"):
        Ledger(tmp_path / "ledger.jsonl").append(row())


def test_rates_are_in_megabits_of_a_million_bits() -> None:
    assert megabits_per_s(125_000_000, 1.0) == pytest.approx(1000.0)
    assert megabits_per_s(1_000_000, 0.5) == pytest.approx(16.0)
    assert megabits_per_s(0, 1.0) is None
    assert megabits_per_s(10, 0.0) is None


def test_negative_durations_are_no_rows() -> None:
    with pytest.raises(ValidationError):
        row(wire_seconds=-1.0)


def test_the_time_is_utc() -> None:
    assert datetime.fromisoformat(utc_now()).utcoffset() == timedelta(0)


def test_totals_of_a_route() -> None:
    rows = [
        row("a", outcome="failed", wire_bytes=400, wire_seconds=1.0, error="cut"),
        row(
            "a",
            wire_bytes=700,
            wire_seconds=1.0,
            bytes_resent=100,
            retries=1,
            megabits_per_s=0.0056,
            verify_seconds=2.0,
        ),
        row("b", wire_bytes=1000, wire_seconds=2.0, megabits_per_s=0.004),
        row("c", outcome="already"),
        row("b", outcome="already"),
        row("z", protocol="local", outcome="failed"),
    ]
    local, sftp = route_totals(rows)
    assert (local.protocol, local.files, local.failed_attempts, local.aggregate_megabits_per_s) == ("local", 0, 1, None)
    assert (sftp.files, sftp.file_bytes, sftp.already, sftp.failed_attempts) == (3, 3000, 1, 1)
    assert (sftp.wire_bytes, sftp.wire_seconds, sftp.verify_seconds, sftp.bytes_resent) == (2100, 4.0, 2.0, 100)
    assert sftp.median_megabits_per_s == pytest.approx(0.0048)
    assert sftp.aggregate_megabits_per_s == pytest.approx(2100 * 8 / 1e6 / 4.0)
    assert route_totals([]) == []
