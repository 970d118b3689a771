from __future__ import annotations

from transfer.manifest import Entry
from transfer.pace import Pace


class Clock:
    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


def entry(path: str, size_bytes: int) -> Entry:
    return Entry(path=path, kind="patches", bytes=size_bytes, digest="sha256:" + "0" * 64)


def test_rate_and_time_left_are_those_of_what_was_sent() -> None:
    clock = Clock()
    pace = Pace([entry("a", 100_000_000), entry("b", 300_000_000)], clock)
    pace.take("a", 100_000_000)  # was there before
    pace.take("b", 100_000_000)  # the journal of an earlier transfer
    assert pace.told() == "1 of 2 files, 200.0 of 400.0 MB (50 %), 0.0 MB/s"
    clock.now_s += 10
    pace.take("b", 150_000_000)
    assert pace.told() == "1 of 2 files, 250.0 of 400.0 MB (62 %), 5.0 MB/s, 0:30 left"
    pace.take("b", 300_000_000)
    clock.now_s += 1
    assert pace.told().startswith("2 of 2 files, 400.0 of 400.0 MB (100 %), ")
    assert pace.share_percent == 100.0


def test_an_old_rate_is_forgotten() -> None:
    clock = Clock()
    pace = Pace([entry("a", 1000_000_000)], clock)
    pace.take("a", 0)
    for _ in range(10):
        clock.now_s += 1
        pace.take("a", int((clock.now_s - 1000) * 50_000_000))
        fast = pace.told()
    assert "50.0 MB/s" in fast
    for _ in range(40):
        clock.now_s += 1
        slow = pace.told()
    assert "0.0 MB/s" in slow
    assert "left" not in slow


def test_a_file_that_is_sent_again_goes_back() -> None:
    pace = Pace([entry("a", 1_000_000)], Clock())
    pace.take("a", 0)
    pace.take("a", 1_000_000)
    pace.take("a", 0)
    assert pace.share_percent == 0.0
    assert pace.told().startswith("0 of 1 files, 0.0 of 1.0 MB (0 %)")


def test_empty_files_and_empty_batches() -> None:
    pace = Pace([entry("a", 0), entry("b", 0)], Clock())
    pace.take("a", 0)
    assert pace.share_percent == 50.0
    assert Pace([], Clock()).share_percent == 100.0
