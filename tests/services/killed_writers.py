"""Layer 1 in processes that die at a chosen point of writing.

One process, started anew, forks them all: it has loaded everything and has no threads, so that forks are quick
and safe.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasks import hdf5
from tasks.patches.preprocess import preprocess_slide
from tasks.patches.slide_job import SlideJob

REPOSITORY = Path(__file__).resolve().parents[2]
KILLED = -signal.SIGKILL


@dataclass(frozen=True)
class Ended:
    """How processes ended, in the order in which they were asked for, and what each noted.

    Attributes
    ----------
    codes
        Exit codes; `KILLED` for one that died.
    points
        Names of the points that the first one passed.
    """

    codes: list[int]
    points: list[str]


class KilledWriters:
    """Starts processes that preprocess a slide."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def preprocess(self, job: SlideJob, *, at: int | None = None, processes: int = 1) -> Ended:
        """Preprocess a slide in so many processes at the same time.

        Parameters
        ----------
        at
            The point, from 0, before which each kills itself; of a write, half of it is done. None: nowhere.
        """
        order = {"job": job.model_dump_json(), "at": at, "processes": processes}
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        return Ended(**json.loads(self._process.stdout.readline()))


@contextmanager
def killed_writers() -> Iterator[KilledWriters]:
    """Start the process that forks, and end it."""
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    with subprocess.Popen(
        [sys.executable, "-m", "tests.services.killed_writers"],
        cwd=REPOSITORY, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        yield KilledWriters(process)
        assert process.stdin is not None
        process.stdin.close()


def _serve() -> None:
    for line in sys.stdin:
        order = json.loads(line)
        job = SlideJob.model_validate_json(order["job"])
        # All wait for this pipe to close, so that they begin at the same time.
        gate_read, gate_write = os.pipe()
        noted_read, noted_write = os.pipe()
        children = []
        for number in range(order["processes"]):
            child = os.fork()
            if not child:
                os.close(gate_write)
                os.read(gate_read, 1)
                _work(job, order["at"], noted_write if number == 0 else None)
            children.append(child)
        for descriptor in (gate_read, gate_write, noted_write):
            os.close(descriptor)
        with os.fdopen(noted_read) as noted:
            points = noted.read().split()
        codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
        print(json.dumps({"codes": codes, "points": points}), flush=True)  # noqa: T201  # the answer


def _work(job: SlideJob, at: int | None, noted: int | None) -> None:
    """Preprocess and end this process, with code 0 when the slide is done."""
    code = 1
    try:
        _arm(at, noted)
        code = 0 if preprocess_slide(job).state == "done" else 2
    finally:
        os._exit(code)


def _arm(at: int | None, noted: int | None) -> None:
    """Put a point before each call that changes a file or a folder."""
    passed = 0
    plain_write = os.write

    def guarded(owner: Any, name: str) -> None:  # noqa: ANN401  # a module or a class
        plain = getattr(owner, name)

        def call(*arguments: Any, **keywords: Any) -> Any:  # noqa: ANN401  # as the plain one
            nonlocal passed
            if passed == at:
                _write_half(plain, name, arguments)
                os.kill(os.getpid(), signal.SIGKILL)
            passed += 1
            if noted is not None:
                plain_write(noted, f"{name}\n".encode())
            return plain(*arguments, **keywords)

        setattr(owner, name, call)

    for name in ("pwrite", "fsync", "replace", "write"):
        guarded(os, name)
    guarded(hdf5._Sink, "write")


def _write_half(plain: Callable[..., Any], name: str, arguments: tuple[Any, ...]) -> None:
    if name in ("pwrite", "write") and len(arguments) > 1:
        target, data, *place = arguments
        whole = memoryview(data).cast("B")
        plain(target, whole[: len(whole) // 2], *place)


if __name__ == "__main__":
    _serve()
