"""Where the wall time of Layer 1 goes, as its coordinator sees it."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Sequence
from typing import Literal

from flows.open_cluster import OpenCluster
from flows.slide_jobs import Work
from tasks.artifacts import Record

Leg = Literal["queued", "startup", "slides", "closing", "manifest"]


class Course(Record):
    """One run of Layer 1 on a cluster; the first five follow each other and are all of its time.

    Attributes
    ----------
    queued_s
        From the start until all tasks are in the cluster's queue: finding the slides, opening the cluster.
    startup_s
        Until the first worker is ready: the queue of the batch system, and the interpreter's start.
    slides_s
        Until the last shard is finished.
    closing_s
        Until the cluster is closed, and the server knows it.
    manifest_s
        Until the manifest is written.
    coordinator_cpu_s
        Processor seconds of this process, which hands out the tasks and talks to the server, in all that time.
    workers
        Most that were there at once.
    tasks
        Slides, and parts of large ones with their masks.
    """

    queued_s: float
    startup_s: float
    slides_s: float
    closing_s: float
    manifest_s: float
    coordinator_cpu_s: float
    workers: int
    tasks: int


class CourseWatch:
    """Notes when a run has passed each leg of its course; it begins now."""

    def __init__(self) -> None:
        self._began_s = self._last_s = time.monotonic()
        self._began_cpu_s = time.process_time()
        self._legs: dict[Leg, float] = defaultdict(float)
        self._workers = 0

    @property
    def seconds(self) -> float:
        """Since the beginning."""
        return time.monotonic() - self._began_s

    def passed(self, leg: Leg) -> None:
        """Note that this leg has ended now; it began where the last one ended."""
        before_s, self._last_s = self._last_s, time.monotonic()
        self._legs[leg] += self._last_s - before_s

    def watched(self, cluster: OpenCluster) -> OpenCluster:
        """Give the cluster with our eyes on its workers."""

        def begin() -> None:
            self.passed("queued")
            cluster.begin()

        def check() -> None:
            # Slides end between two looks: the last look follows the last shard.
            self.passed("slides" if self._workers else "startup")
            self._workers = max(self._workers, cluster.workers())
            cluster.check()

        return OpenCluster(cluster.runner, begin, check, cluster.workers)

    def course(self, slides: Sequence[Sequence[Work]]) -> Course:
        """Give what was noted of the work of these slides."""
        return Course(
            queued_s=self._legs["queued"],
            startup_s=self._legs["startup"],
            slides_s=self._legs["slides"],
            closing_s=self._legs["closing"],
            manifest_s=self._legs["manifest"],
            coordinator_cpu_s=time.process_time() - self._began_cpu_s,
            workers=self._workers,
            tasks=sum(len(slide) + (len(slide) > 1) for slide in slides),
        )
