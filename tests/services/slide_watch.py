"""Sees which processes of Slurm jobs read which slides, and can stop or kill them in the middle of their work."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

_POLL_S = 0.01
_FORGET_LOOKS = 50


@dataclass(frozen=True)
class Reading:
    """A process that has a slide open."""

    slide: str
    pid: int
    job: str

    def freeze(self) -> bool:
        """Stop the process if it still has the slide open then; otherwise it goes on, and the answer is no."""
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGSTOP)
            while _state(self.pid) not in ("T", "Z"):
                time.sleep(0.001)
            if any(Path(name).stem == self.slide for name in _open_files(self.pid)):
                return True
            self.thaw()
        return False

    def thaw(self) -> None:
        """Let the process go on."""
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGCONT)


@dataclass
class SlideWatch:
    """What was seen so far: the processes that have read each slide, by the slide's name."""

    readers: dict[str, set[Reading]] = field(default_factory=lambda: defaultdict(set))

    def jobs_of(self, slide: str) -> set[str]:
        return {reading.job for reading in self.readers[slide]}


@contextmanager
def watched_slides(folder: Path, seen: Callable[[Reading], None] = lambda reading: None) -> Iterator[SlideWatch]:
    """Watch the slides below `folder` while the block lasts; `seen` is called as long as a process has one open."""
    watch, stop = SlideWatch(), threading.Event()
    slides = {str(path.resolve()): path.stem for path in folder.rglob("*.tif")}
    jobs: dict[int, str | None] = {}

    def look() -> None:
        looks = 0
        while not stop.is_set():
            if looks % _FORGET_LOOKS == 0:  # a process has the variables of its job only when it has become a program
                others = [pid for pid, job in jobs.items() if job is None]
                for pid in others:
                    del jobs[pid]
            for reading in _readings(slides, jobs):
                watch.readers[reading.slide].add(reading)
                seen(reading)
            looks += 1
            time.sleep(_POLL_S)

    with ThreadPoolExecutor(1) as threads:
        looking = threads.submit(look)
        try:
            yield watch
        finally:
            stop.set()
        looking.result()


def _readings(slides: dict[str, str], jobs: dict[int, str | None]) -> Iterator[Reading]:
    for entry in os.scandir("/proc"):
        if entry.name.isdecimal():
            pid = int(entry.name)
            if pid not in jobs:
                jobs[pid] = _job_of(pid)
            job = jobs[pid]
            if job is not None:
                yield from (Reading(slides[path], pid, job) for path in _open_files(pid) if path in slides)


def _open_files(pid: int) -> set[str]:
    files: set[str] = set()
    with suppress(OSError):  # it has ended
        for entry in os.scandir(f"/proc/{pid}/fd"):
            with suppress(OSError):  # it has closed the file since
                files.add(str(Path(entry.path).readlink()))
    return files


def _state(pid: int) -> str:
    """State letter of a process; Z also when it is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "Z"


def _job_of(pid: int) -> str | None:
    """Job that a process belongs to."""
    mark = b"SLURM_JOB_ID="
    with suppress(OSError):  # it has ended
        variables = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        return next((line[len(mark) :].decode() for line in variables if line.startswith(mark)), None)
    return None
