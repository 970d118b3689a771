"""``camnet transfers`` over ledgers of several runs."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest

from tasks.errors import ExitCode
from tests.services.camnet_cli import camnet
from transfer.ledger import Ledger, LedgerRow

MB = 10**6


def row(run: str, path: str, protocol: str, minute: int, **changes: object) -> LedgerRow:
    facts = {
        "start": f"2026-03-01T09:{minute:02}:00.000+00:00",
        "run": run,
        "source": "site-a",
        "destination": "site-b",
        "protocol": protocol,
        "path": path,
        "streams": 2,
        "file_bytes": 100 * MB,
        "wire_bytes": 100 * MB,
        "wire_seconds": 2.0,
        "megabits_per_s": 400.0,
        "outcome": "done",
    }
    return LedgerRow.model_validate(facts | changes)


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    first, second = (Ledger(tmp_path / "site-a" / run / "ledger.jsonl") for run in ("one", "two"))
    first.append(row("one", "a.h5", "sftp", 1, outcome="failed", error="the connection failed", wire_bytes=MB))
    first.append(row("one", "a.h5", "sftp", 2, retries=1, bytes_resent=MB))
    second.append(row("two", "b.h5", "local", 3, destination="site-c"))
    Ledger(tmp_path / "site-b" / "two" / "ledger.jsonl").append(row("two", "c.h5", "sftp", 0, source="site-b"))
    return tmp_path


def rows(workspace: Path, *options: str) -> list[str]:
    done = camnet("transfers", "-w", workspace, "--json", *options)
    assert done.code == ExitCode.DONE, done.errors
    return [f"{found['run']} {found['path']} {found['outcome']}" for found in json.loads(done.output)["rows"]]


def test_all_ledgers_are_read_in_the_order_of_time_and_filtered(workspace: Path) -> None:
    assert rows(workspace) == ["two c.h5 done", "one a.h5 failed", "one a.h5 done", "two b.h5 done"]
    assert rows(workspace, "--run", "two") == ["two c.h5 done", "two b.h5 done"]
    assert rows(workspace, "--site", "site-c") == ["two b.h5 done"]
    assert rows(workspace, "--protocol", "sftp", "--outcome", "done") == ["two c.h5 done", "one a.h5 done"]
    assert rows(workspace, "--since", "2026-03-01T09:02:00") == ["one a.h5 done", "two b.h5 done"]
    one = workspace / "site-a" / "one" / "ledger.jsonl"
    assert rows(workspace, "--ledger", str(one)) == ["one a.h5 failed", "one a.h5 done"]


def test_routes_are_summed_up_and_printed(workspace: Path) -> None:
    shown = camnet("transfers", "-w", workspace, environment={"COLUMNS": "200"})
    assert shown.code == ExitCode.DONE, shown.errors
    assert "the connection failed" in shown.output
    assert "400.0" in shown.output
    routes = json.loads(camnet("transfers", "-w", workspace, "--json").output)["routes"]
    (sftp,) = (route for route in routes if (route["source"], route["protocol"]) == ("site-a", "sftp"))
    assert (sftp["files"], sftp["failed_attempts"], sftp["bytes_resent"]) == (1, 1, MB)
    table = list(csv.DictReader(io.StringIO(camnet("transfers", "-w", workspace, "--csv").output)))
    assert [(line["path"], line["megabits_per_s"]) for line in table] == [
        (path, "400.0") for path in ("c.h5", "a.h5", "a.h5", "b.h5")
    ]


def test_nothing_moved_yet_and_nonsense(tmp_path: Path) -> None:
    nothing = camnet("transfers", "-w", tmp_path)
    assert (nothing.code, "no routes" in nothing.output) == (ExitCode.DONE, True)
    assert camnet("transfers", "-w", tmp_path, "--outcome", "won").code == ExitCode.USAGE
    assert camnet("transfers", "--ledger", tmp_path / "nothing").code == ExitCode.USAGE
