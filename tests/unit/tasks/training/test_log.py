from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tasks.training.log import TrainingLog, read_log


def test_events_are_lines_as_soon_as_they_happen(tmp_path: Path) -> None:
    path = tmp_path / "model" / "log.jsonl"
    with TrainingLog(path) as log:
        log.write("start", ranks=2)
        assert [row["event"] for row in read_log(path)] == ["start"]
        log.write("epoch", loss=0.5, validation_auc=None)
    assert [(row["event"], row.get("loss")) for row in read_log(path)] == [("start", None), ("epoch", 0.5)]


def test_progress_is_told_now_and_then(tmp_path: Path) -> None:
    with TrainingLog(tmp_path / "log.jsonl") as log:
        for step in range(100):
            log.progress("step", step=step)
    assert [row["step"] for row in read_log(tmp_path / "log.jsonl")] == [0]


def test_a_training_that_goes_on_takes_over_what_lasts(tmp_path: Path) -> None:
    with TrainingLog(tmp_path / "first.jsonl") as first:
        first.write("epoch", epoch=1, loss=0.5)
        first.progress("step", step=7)
        lasting = first.lasting
    told: list[tuple[str, dict[str, Any]]] = []
    with TrainingLog(tmp_path / "second.jsonl", lambda event, values: told.append((event, values))) as second:
        second.take_over(lasting)
        second.write("epoch", epoch=2, loss=0.4)
        assert second.lasting.startswith(lasting)
    rows = read_log(tmp_path / "second.jsonl")
    assert [(row["event"], row["epoch"]) for row in rows] == [("epoch", 1), ("epoch", 2)]
    assert rows[0] == read_log(tmp_path / "first.jsonl")[0]
    assert told == [("epoch", {"epoch": 1, "loss": 0.5}), ("epoch", {"epoch": 2, "loss": 0.4})]


def test_numbers_that_json_lacks_are_refused(tmp_path: Path) -> None:
    with TrainingLog(tmp_path / "log.jsonl") as log, pytest.raises(ValueError, match="not JSON compliant"):
        log.write("epoch", loss=float("nan"))


def test_other_ranks_write_nothing() -> None:
    with TrainingLog(None) as log:
        log.write("start")
        log.progress("step")
