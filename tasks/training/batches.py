"""Batches of patches, read by background threads while the last ones are trained on."""

from __future__ import annotations

import math
import resource
import threading
import time
import weakref
from collections import OrderedDict, deque
from collections.abc import Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tasks.patches.store import Shard, open_shard
from tasks.stain.change import change_colours
from tasks.training.cohort import LabelledRows
from tasks.training.epoch import RankEpoch
from tasks.training.stain import SlideStains

STRETCH_ROWS = 64
"""Of one piece of work for a thread."""
_STRETCHES_A_THREAD = 2
_MOST_OPEN_SHARDS = 4096


@dataclass(frozen=True)
class Batch:
    """Some labelled patches.

    Attributes
    ----------
    pixels
        uint8 (n, patch_px, patch_px, 3), RGB; the caller's own.
    label
        (n,) 1 tumour, 0 normal.
    rows
        (n,) positions in the labelled rows.
    waiting_s
        Seconds that the caller waited for this batch.
    """

    pixels: NDArray[np.uint8]
    label: NDArray[np.int8]
    rows: NDArray[np.int64]
    waiting_s: float = 0.0


def read_batches(
    rows: LabelledRows, plan: RankEpoch, *, threads: int = 1, stains: SlideStains | None = None
) -> Generator[Batch, None, None]:
    """Give the batches of `plan` in its order.

    Threads read and decode the next two batches and, of what follows in the order of reading, two stretches of
    `STRETCH_ROWS` a thread, each patch straight to its place in its batch. So the pixels in memory are at most those
    of the plan's window, of two batches, and 128 patches a thread. What is given does not depend on the number of
    threads or on their timing. An error while reading is raised here. With `stains`, each patch has the stain of their
    reference.
    """
    work = _Work(rows, plan, stains)
    shards = _OpenShards()
    pool = ThreadPoolExecutor(threads, thread_name_prefix="read-patches")
    reading: deque[Future[None]] = deque()
    begun = read = 0
    try:
        for step in range(plan.steps):
            ahead = int(work.needed[min(step + 2, plan.steps - 1)])
            wanted = max(ahead, int(work.needed[step]) + _STRETCHES_A_THREAD * threads)
            for stretch in range(begun, min(wanted, work.stretches)):
                reading.append(pool.submit(work.begin(stretch), shards))
                begun = stretch + 1
            started = time.monotonic()
            for _ in range(read, int(work.needed[step])):
                reading.popleft().result()
            read = int(work.needed[step])
            yield work.batch(step, time.monotonic() - started)
    finally:
        pool.shutdown(cancel_futures=True)
        shards.close()


class _Work:
    """What is to be read: stretches of the order of reading, and the batches that they fill.

    Attributes
    ----------
    stretches
        Number of stretches.
    needed
        (steps,) how many stretches must have been read before the batch of a step is complete.
    """

    def __init__(self, rows: LabelledRows, plan: RankEpoch, stains: SlideStains | None) -> None:
        self._rows, self._plan, self._stains = rows, plan, stains
        self._pixels: dict[int, NDArray[np.uint8]] = {}
        self._memory = _Memory(int(plan.batch_rows.max(initial=0)), rows.shards[0].patch_px)
        self._first = np.cumsum(plan.batch_rows) - plan.batch_rows
        self._ends = self._cut()
        self.stretches = len(self._ends)
        stretch = np.empty(len(plan.rows), np.int64)
        stretch[plan.reading] = np.searchsorted(self._ends, np.arange(len(plan.rows)), side="right")
        last = np.maximum.reduceat(stretch, self._first) if plan.steps else stretch
        self.needed = np.maximum.accumulate(last) + 1

    def _cut(self) -> NDArray[np.int64]:
        """End stretches where runs end, so that rows that share tiles are read at once, unless a run is long."""
        chosen = self._plan.rows[self._plan.reading]
        goes_on = (np.diff(self._rows.row[chosen]) == 1) & (np.diff(self._rows.shard[chosen]) == 0)
        borders = np.append(np.flatnonzero(~goes_on) + 1, len(chosen))
        ends = [0]
        while ends[-1] < len(chosen):
            least = min(ends[-1] + STRETCH_ROWS, len(chosen))
            border = int(borders[np.searchsorted(borders, least)])
            ends.append(border if border <= ends[-1] + 2 * STRETCH_ROWS else least)
        return np.array(ends[1:], np.int64)

    def begin(self, stretch: int) -> _Stretch:
        """Take memory for the batches that the next stretch puts patches into."""
        start = int(self._ends[stretch - 1]) if stretch else 0
        places = self._plan.reading[start : self._ends[stretch]]
        steps = np.searchsorted(self._first, places, side="right") - 1
        for step in set(steps.tolist()) - self._pixels.keys():
            self._pixels[step] = self._memory.take(int(self._plan.batch_rows[step]))
        inside = (places - self._first[steps]).tolist()
        patches = [self._pixels[step][place] for step, place in zip(steps.tolist(), inside, strict=True)]
        return _Stretch(self._rows, self._plan.rows[places], patches, self._stains)

    def batch(self, step: int, waiting_s: float) -> Batch:
        """Give the batch of a step, all of whose stretches have been read."""
        first = self._first[step]
        chosen = self._plan.rows[first : first + self._plan.batch_rows[step]]
        return Batch(self._pixels.pop(step), self._rows.label[chosen], chosen, waiting_s)


class _Memory:
    """Memory for batches, used again when no one has the batch any more: new pages cost more than reading."""

    def __init__(self, rows: int, side_px: int) -> None:
        self._shape = (rows, side_px, side_px, 3)
        self._free: list[NDArray[np.uint8]] = []

    def take(self, rows: int) -> NDArray[np.uint8]:
        """Give memory for a batch, uint8 (rows, side_px, side_px, 3)."""
        block = self._free.pop() if self._free else np.empty(math.prod(self._shape), np.uint8)
        # Over a memoryview, numpy makes every view of the batch, such as a patch, keep this array alive.
        whole: NDArray[np.uint8] = np.frombuffer(block.data, np.uint8)
        weakref.finalize(whole, self._free.append, block).atexit = False
        return whole.reshape(self._shape)[:rows]


@dataclass(frozen=True)
class _Stretch:
    """Rows that are read together, and the memory that each patch goes to."""

    rows: LabelledRows
    chosen: NDArray[np.int64]
    patches: list[NDArray[np.uint8]]
    stains: SlideStains | None

    def __call__(self, shards: _OpenShards) -> None:
        """Read file by file, each in the order of its rows."""
        of = self.rows.shard[self.chosen]
        order = np.argsort(of, kind="stable")
        borders = np.flatnonzero(np.diff(of[order])) + 1
        for places in np.split(order, borders):
            facts = self.rows.shards[of[places[0]]]
            patches = [self.patches[place] for place in places.tolist()]
            with shards.reading(facts.path) as shard:
                shard.read_into(self.rows.row[self.chosen[places]], patches)
            if self.stains:
                change_colours(patches, self.stains.change_of(facts.slide))


class _OpenShards:
    """Keeps the most recently used shards open: a cohort can have more files than a process may open."""

    def __init__(self) -> None:
        self._open: OrderedDict[Path, Shard] = OrderedDict()
        self._users: dict[Path, int] = {}
        self._lock = threading.Lock()
        self._most = _most_open_files() // 2

    @contextmanager
    def reading(self, path: Path) -> Iterator[Shard]:
        """Give an open shard, which stays open while the block runs."""
        with self._lock:
            shard = self._open.pop(path, None) or open_shard(path)
            self._open[path] = shard
            self._users[path] = self._users.get(path, 0) + 1
            self._close_idle()
        try:
            yield shard
        finally:
            with self._lock:
                self._users[path] -= 1

    def _close_idle(self) -> None:
        while len(self._open) > self._most:
            idle = next((path for path in self._open if not self._users[path]), None)
            if idle is None:
                return
            self._open.pop(idle).close()

    def close(self) -> None:
        for shard in self._open.values():
            shard.close()


def _most_open_files() -> int:
    """Raise this process's limit as far as it may, and give it: a shuffled epoch reads from all shards in turn."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 2 * _MOST_OPEN_SHARDS if hard == resource.RLIM_INFINITY else min(hard, 2 * _MOST_OPEN_SHARDS)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return wanted
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return wanted
