from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tasks.errors import IntegrityError
from tasks.training.timeline import gradient_all_reduces


def named(pid: int, name: str) -> dict[str, Any]:
    return {"name": "process_name", "ph": "M", "pid": pid, "args": {"name": name}}


def averaged(
    pid: int, begin_us: int, end_us: int, dtype: str = "float32", shape: str = "[10, 5]"
) -> list[dict[str, Any]]:
    """One average as Horovod writes it: the negotiation before it, the copying inside it."""
    return [
        {"ph": "B", "name": "NEGOTIATE_ALLREDUCE", "ts": begin_us - 500, "pid": pid},
        {"ph": "X", "name": "0", "ts": begin_us - 400, "pid": pid, "dur": 0},
        {"ph": "E", "ts": begin_us - 100, "pid": pid},
        {"ph": "B", "name": "ALLREDUCE", "ts": begin_us, "pid": pid},
        {"ph": "B", "name": "GLOO_ALLREDUCE", "ts": begin_us + 10, "pid": pid},
        {"ph": "E", "ts": end_us - 10, "pid": pid},
        {"ph": "E", "ts": end_us, "pid": pid, "args": {"dtype": dtype, "shape": shape}},
    ]


def written(folder: Path, events: list[dict[str, Any]]) -> Path:
    path = folder / "timeline.json"
    path.write_text(json.dumps(events))
    return path


def test_averages_at_the_same_time_count_once_and_others_than_of_gradients_do_not(tmp_path: Path) -> None:
    start = {"name": "process_name", "ph": "M", "pid": 0, "args": {"start_time_since_epoch_in_micros": 7}}
    events = [start, named(1, "gradient.0.of.2"), named(2, "gradient.1.of.2"), named(3, "average.moving_mean")]
    events += [*averaged(1, 1000, 3000), *averaged(2, 2000, 5000), *averaged(3, 6000, 60000)]
    events += [*averaged(2, 100_000, 101_000, "float16", "[4]"), *averaged(1, 103_000, 104_000, "float16")]
    first, second = gradient_all_reduces(written(tmp_path, events))
    assert first.seconds == pytest.approx(0.004)
    assert first.bytes == 2 * 4 * 50
    assert second.seconds == pytest.approx(0.002), "not the time between them"
    assert second.bytes == 2 * 50 + 2 * 4


@pytest.mark.parametrize("text", ["", '[\n{"ph": "B", "pid": 1},'], ids=["empty", "cut off"])
def test_a_timeline_that_is_not_whole_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "timeline.json"
    path.write_text(text)
    with pytest.raises(IntegrityError, match="no whole timeline"):
        gradient_all_reduces(path)


def test_a_timeline_that_was_not_written_is_refused(tmp_path: Path) -> None:
    with pytest.raises(IntegrityError, match="no whole timeline"):
        gradient_all_reduces(tmp_path / "absent.json")
