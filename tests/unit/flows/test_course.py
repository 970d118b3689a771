from __future__ import annotations

from typing import Any

import pytest

from flows import course
from flows.course import CourseWatch
from flows.open_cluster import OpenCluster


class Clock:
    """A clock that is set by hand."""

    now_s = 100.0

    def monotonic(self) -> float:
        return self.now_s

    def process_time(self) -> float:
        return self.now_s / 10


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(course, "time", clock)
    return clock


def test_the_legs_follow_each_other_and_are_all_of_the_time(clock: Clock) -> None:
    workers = [0]
    said: list[str] = []
    runner: Any = object()
    watch = CourseWatch()
    cluster = watch.watched(
        OpenCluster(runner, lambda: said.append("begin"), lambda: said.append("check"), lambda: workers[0])
    )
    clock.now_s += 2
    cluster.begin()
    clock.now_s += 3
    cluster.check()
    clock.now_s += 4
    workers[0] = 2
    cluster.check()
    for now in (3, 1, 0):
        clock.now_s += 5
        workers[0] = now
        cluster.check()
    clock.now_s += 6
    watch.passed("closing")
    clock.now_s += 1
    watch.passed("manifest")
    found = watch.course([[object()], [object()] * 4])  # type: ignore[list-item]  # only their number counts
    legs = [found.queued_s, found.startup_s, found.slides_s, found.closing_s, found.manifest_s]
    assert legs == [2, 7, 15, 6, 1]
    assert sum(legs) == watch.seconds
    assert found.coordinator_cpu_s == pytest.approx(3.1)
    assert (found.workers, found.tasks) == (3, 1 + 4 + 1)
    assert said == ["begin", "check", "check", "check", "check", "check"]
    assert cluster.runner is runner
