"""What making something from a slide takes: seconds and processor seconds by phase, bytes, worker processes."""

from __future__ import annotations

import os
import socket
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Literal

import psutil
from pydantic import Field

from tasks.artifacts import Record

Phase = Literal["read", "masks", "pictures", "cut", "digest"]
"""Digest of the slide; annotation and masks; thumbnails; decoding and writing patches; digests of what was written."""


class Spent(Record):
    """Wall seconds, and processor seconds of the whole process (all threads, user and system)."""

    wall_s: float = 0.0
    cpu_s: float = 0.0

    def __add__(self, other: Spent) -> Spent:
        return Spent(wall_s=self.wall_s + other.wall_s, cpu_s=self.cpu_s + other.cpu_s)


class WorkerProcess(Record):
    """A process that worked.

    Attributes
    ----------
    cpu_s
        Processor seconds since its start, its imports included, when its last work ended.
    cores, host_cores
        That it may use, and that its host has.
    """

    host: str
    cpu_s: float
    cores: int
    host_cores: int


class Effort(Record):
    """What some work took; sums of it are those of all workers.

    Attributes
    ----------
    whole
        All of it; what is in no phase, too.
    read_bytes, written_bytes
        What its process read and wrote meanwhile, from the page cache or the disk; 0 where the system does not say.
    workers
        By the name of the process.
    """

    whole: Spent = Spent()
    phases: dict[Phase, Spent] = Field(default_factory=dict)
    read_bytes: int = 0
    written_bytes: int = 0
    workers: dict[str, WorkerProcess] = Field(default_factory=dict)

    def __add__(self, other: Effort) -> Effort:
        both = [self.workers, other.workers]
        named = {name: [found[name] for found in both if name in found] for name in {**both[0], **both[1]}}
        return Effort(
            whole=self.whole + other.whole,
            phases={name: self.of(name) + other.of(name) for name in {**self.phases, **other.phases}},
            read_bytes=self.read_bytes + other.read_bytes,
            written_bytes=self.written_bytes + other.written_bytes,
            workers={name: max(found, key=lambda one: one.cpu_s) for name, found in named.items()},
        )

    @property
    def cores(self) -> int:
        """That all its processes have together: of each host what they may use, at most what it has."""
        allowed: Counter[str] = Counter()
        for worker in self.workers.values():
            allowed[worker.host] += worker.cores
        there = {worker.host: worker.host_cores for worker in self.workers.values()}
        return sum(min(cores, there[host]) for host, cores in allowed.items())

    def of(self, phase: Phase) -> Spent:
        """Give what a phase took."""
        return self.phases.get(phase, Spent())


class Account:
    """Collects what is spent in a block of `accounted`."""

    def __init__(self) -> None:
        self.phases: dict[Phase, Spent] = {}
        self._began, self._bytes = _now(), _bytes_so_far()

    def effort(self) -> Effort:
        """Give what was spent up to now."""
        read_bytes, written_bytes = _bytes_so_far()
        return Effort(
            whole=_since(self._began),
            phases=dict(self.phases),
            read_bytes=read_bytes - self._bytes[0],
            written_bytes=written_bytes - self._bytes[1],
            workers={f"{_node()}/{os.getpid()}": _this_worker()},
        )


_ACCOUNT: ContextVar[Account | None] = ContextVar("account", default=None)


@contextmanager
def accounted() -> Iterator[Account]:
    """Account for what the block spends; blocks of `spent_on` inside it say for what."""
    account = Account()
    token = _ACCOUNT.set(account)
    try:
        yield account
    finally:
        _ACCOUNT.reset(token)


@contextmanager
def spent_on(phase: Phase) -> Iterator[None]:
    """Count the block as a phase of the block of `accounted` around it, if there is one."""
    account = _ACCOUNT.get()
    began = _now()
    try:
        yield
    finally:
        if account is not None:
            account.phases[phase] = account.phases.get(phase, Spent()) + _since(began)


def _now() -> Spent:
    return Spent(wall_s=time.monotonic(), cpu_s=time.process_time())


def _since(began: Spent) -> Spent:
    now = _now()
    return Spent(wall_s=now.wall_s - began.wall_s, cpu_s=now.cpu_s - began.cpu_s)


def _bytes_so_far() -> tuple[int, int]:
    try:
        counters = psutil.Process().io_counters()
    except (AttributeError, psutil.Error):  # macOS has none, and some containers do not let us see ours
        return 0, 0
    return counters.read_chars, counters.write_chars


def _this_worker() -> WorkerProcess:
    there = os.cpu_count() or 1
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else there
    return WorkerProcess(host=socket.gethostname(), cpu_s=time.process_time(), cores=cores, host_cores=there)


def _node() -> str:
    # Virtual nodes of a Slurm share a host.
    return os.environ.get("SLURMD_NODENAME") or socket.gethostname()
