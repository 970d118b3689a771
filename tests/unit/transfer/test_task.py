"""What a transfer tells on its way: on the terminal, and to the Prefect server."""

from __future__ import annotations

import logging
import re
import time
from pathlib import Path
from typing import Any

import pytest

from tests.services.sshd_route import QUICK, random_bytes, route_of
from transfer import task
from transfer.model import Batch
from transfer.mover import open_mover


def moved_and_told(folder: Path) -> Batch:
    """Move 600 kB at 1 MB/s."""
    route = route_of(folder, "local", None)
    route.put({"a.bin": random_bytes(600_000), "b.bin": b"b"})
    batch = route.batch("a.bin", "b.bin")
    slow = QUICK.model_copy(update={"limit_mb_per_s": 1.0})
    with task._told_on_the_way(batch) as pace:
        open_mover("local", batch.source, batch.destination, slow, route.ledger).move(batch, pace.take)
    return batch


def test_rate_and_time_left_are_told_on_the_terminal_and_as_an_artifact(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    told: list[tuple[float, str]] = []

    def create(progress: float, *, key: str, description: str) -> str:
        assert key == "transfer-progress"
        told.append((progress, description))
        return key

    def update(artifact: str, progress: float, *, description: str) -> None:
        told.append((progress, description))

    monkeypatch.setattr(task, "_TELL_EVERY_S", 0.1)
    monkeypatch.setattr(task, "create_progress_artifact", create)
    monkeypatch.setattr(
        task,
        "update_progress_artifact",
        lambda artifact, progress, *, description: told.append((progress, description)),
    )
    caplog.set_level(logging.INFO, task.__name__)
    moved_and_told(tmp_path / "sites")
    percent = [share for share, _ in told]
    assert percent == sorted(percent)
    assert (percent[0], percent[-1]) == (0.0, 100.0)
    assert len(percent) > 3
    line = re.compile(r"site-a → site-b: 0 of 2 files, 0\.\d of 0\.6 MB \(\d+ %\), \d\.\d MB/s, 0:0\d left")
    assert any(line.fullmatch(description) for _, description in told)
    assert any(line.fullmatch(record.getMessage()) for record in caplog.records)


def test_a_transfer_goes_on_without_the_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def away(*arguments: Any, **options: Any) -> str:  # noqa: ANN401 - as the client's
        raise OSError("no route")

    monkeypatch.setattr(task, "create_progress_artifact", away)
    began_s = time.monotonic()
    batch = moved_and_told(tmp_path / "sites")
    assert time.monotonic() - began_s < 5
    assert (Path(batch.destination.root) / "a.bin").stat().st_size == 600_000
    assert "the Prefect server was not told: no route" in caplog.text
