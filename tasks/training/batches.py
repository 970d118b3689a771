"""Batches of patches, read by a background thread while the last ones are trained on."""

from __future__ import annotations

import queue
import threading
from collections import OrderedDict
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tasks.patches.store import Shard, open_shard
from tasks.training.cohort import LabelledRows
from tasks.training.epoch import RankEpoch

_OPEN_SHARDS = 64


@dataclass(frozen=True)
class Batch:
    """Some labelled patches.

    Attributes
    ----------
    pixels
        uint8 (n, patch_px, patch_px, 3), RGB.
    label
        (n,) 1 tumour, 0 normal.
    rows
        (n,) positions in the labelled rows.
    """

    pixels: NDArray[np.uint8]
    label: NDArray[np.int8]
    rows: NDArray[np.int64]


def read_batches(rows: LabelledRows, plan: RankEpoch) -> Generator[Batch, None, None]:
    """Give the batches of `plan` in its order.

    A thread reads one window ahead of the one in use, so at most three windows are in memory: in use,
    waiting, and being read (``3 × tasks.training.epoch.WINDOW_BYTES``, 288 MiB, and one batch). What is
    given does not depend on the thread's timing. An error while reading is raised here.
    """
    waiting: queue.Queue[NDArray[np.uint8] | BaseException] = queue.Queue(maxsize=1)
    ended = threading.Event()
    thread = threading.Thread(target=_read_ahead, args=(rows, plan, waiting, ended), name="read-ahead", daemon=True)
    thread.start()
    try:
        yield from _cut(rows, plan, waiting)
    finally:
        ended.set()
        thread.join()


def _cut(
    rows: LabelledRows, plan: RankEpoch, waiting: queue.Queue[NDArray[np.uint8] | BaseException]
) -> Iterator[Batch]:
    """Cut windows into batches; a batch may begin in one window and end in a later one."""
    windows = iter(plan.windows)
    window, pixels, used = np.empty(0, np.int64), np.empty((0, 0, 0, 3), np.uint8), 0
    for size in plan.batch_rows:
        positions: list[NDArray[np.int64]] = []
        pieces: list[NDArray[np.uint8]] = []
        missing = int(size)
        while missing:
            if used == len(window):
                window, pixels, used = next(windows), _next_window(waiting), 0
            taken = slice(used, used + missing)
            positions.append(window[taken])
            pieces.append(pixels[taken])
            used += len(positions[-1])
            missing -= len(positions[-1])
        chosen = np.concatenate(positions)
        yield Batch(np.concatenate(pieces), rows.label[chosen], chosen)


def _next_window(waiting: queue.Queue[NDArray[np.uint8] | BaseException]) -> NDArray[np.uint8]:
    item = waiting.get()
    if isinstance(item, BaseException):
        raise item
    return item


def _read_ahead(
    rows: LabelledRows,
    plan: RankEpoch,
    waiting: queue.Queue[NDArray[np.uint8] | BaseException],
    ended: threading.Event,
) -> None:
    shards = _OpenShards()
    try:
        for window in plan.windows:
            if not _put(waiting, _read_window(rows, window, shards), ended):
                return
    except BaseException as error:
        # Raised again in the thread that waits for this window.
        _put(waiting, error, ended)
    finally:
        shards.close()


def _put(
    waiting: queue.Queue[NDArray[np.uint8] | BaseException],
    item: NDArray[np.uint8] | BaseException,
    ended: threading.Event,
) -> bool:
    """Put `item` unless the reader of the queue has gone."""
    while not ended.is_set():
        try:
            waiting.put(item, timeout=0.2)
        except queue.Full:
            continue
        return True
    return False


def _read_window(rows: LabelledRows, window: NDArray[np.int64], shards: _OpenShards) -> NDArray[np.uint8]:
    """Read the pixels of a window file by file, each file in the order of its rows."""
    side = rows.shards[0].patch_px
    pixels = np.empty((len(window), side, side, 3), np.uint8)
    shard_of = rows.shard[window]
    for shard in np.unique(shard_of):
        places = np.flatnonzero(shard_of == shard)
        pixels[places] = shards.get(rows.shards[shard].path).read(rows.row[window[places]])
    return pixels


class _OpenShards:
    """Keeps the most recently used shards open: a cohort can have more files than a process may open."""

    def __init__(self) -> None:
        self._open: OrderedDict[Path, Shard] = OrderedDict()

    def get(self, path: Path) -> Shard:
        shard = self._open.pop(path, None) or open_shard(path)
        self._open[path] = shard
        if len(self._open) > _OPEN_SHARDS:
            self._open.popitem(last=False)[1].close()
        return shard

    def close(self) -> None:
        for shard in self._open.values():
            shard.close()
