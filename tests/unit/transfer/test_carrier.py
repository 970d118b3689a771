"""The watch over what a carrier brings."""

from __future__ import annotations

from pathlib import Path

import pytest

from transfer.carrier import Load, Watch
from transfer.local import LocalStore


@pytest.fixture
def told() -> list[tuple[str, int]]:
    return []


def watch_of(folder: Path, told: list[tuple[str, int]], *loads: Load) -> Watch:
    return Watch(lambda: LocalStore(folder), loads, lambda path, arrived_bytes: told.append((path, arrived_bytes)))


def test_it_tells_what_has_come(tmp_path: Path, told: list[tuple[str, int]]) -> None:
    watch = watch_of(tmp_path, told, Load("a", "a.part", 10, 0, 10), Load("b", "b.part", 10, 4, 6))
    assert watch.look() == 0
    (tmp_path / "a.part").write_bytes(bytes(3))
    (tmp_path / "b.part").write_bytes(bytes(4))  # it was continued there: nothing new
    assert watch.look() == 3
    (tmp_path / "a.part").write_bytes(bytes(10))
    (tmp_path / "b.part").write_bytes(bytes(12))  # never more than the load
    assert watch.look() == 16
    assert told == [("a.part", 3), ("a.part", 10), ("b.part", 6)]
    assert watch.arrived_bytes("b.part") == 6


def test_a_file_that_shrinks_is_not_told(tmp_path: Path, told: list[tuple[str, int]]) -> None:
    watch = watch_of(tmp_path, told, Load("a", "a.part", 10, 0, 10))
    (tmp_path / "a.part").write_bytes(bytes(8))
    watch.look()
    (tmp_path / "a.part").write_bytes(bytes(2))
    assert watch.look() == 8
    assert told == [("a.part", 8)]


def test_its_clock_runs_while_bytes_come(
    tmp_path: Path, told: list[tuple[str, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    now_s = 100.0
    monkeypatch.setattr("transfer.carrier.time.monotonic", lambda: now_s)
    watch = watch_of(tmp_path, told, Load("a", "a.part", 10, 0, 10), Load("b", "b.part", 10, 0, 10))
    assert watch.wire_seconds == 0
    now_s = 103.0
    watch.look()
    now_s = 104.0
    (tmp_path / "a.part").write_bytes(bytes(5))
    watch.look()
    now_s = 107.0
    (tmp_path / "a.part").write_bytes(bytes(10))
    watch.look()
    now_s = 120.0
    watch.look()
    assert watch.wire_seconds == 4
    watch.begin()
    assert watch.wire_seconds == 0
    now_s = 121.0
    watch.look()
    now_s = 122.0
    (tmp_path / "b.part").write_bytes(bytes(10))
    watch.look()
    assert watch.wire_seconds == 1
