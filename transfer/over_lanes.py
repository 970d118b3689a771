"""Small files over several lanes: how many are worth it, and what it means that one breaks."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from tasks.errors import InputError
from transfer.cargo import Item
from transfer.connections import connections_for
from transfer.faults import fault_of
from transfer.lane import Lane

T = TypeVar("T")


def drain_over_lanes(
    lanes: Sequence[Lane], most: int, queue: deque[T], drain: Callable[[Lane, deque[T]], Exception | None]
) -> Exception | None:
    """Empty a queue over the lanes that it and the link are worth.

    Parameters
    ----------
    most
        Lanes that the queue is worth.
    drain
        Empties the queue over one lane, beside others; gives what ended it before.

    Returns
    -------
    Exception or None
        What broke a lane. What is in the queue then, no lane was left for.
    """
    try:
        lanes = _worthy(lanes, most)
    except Exception as problem:
        lanes[0].close()
        return problem
    broke: Exception | None = None
    with ThreadPoolExecutor(max(1, len(lanes)), thread_name_prefix="camnet-stream") as pool:
        streams = [pool.submit(drain, lane, queue) for lane in lanes]
        try:
            for stream in streams:
                broke = stream.result() or broke
        except BaseException:  # an interruption too: the pool waits for them
            queue.clear()  # the other lanes end after what they have on their way
            raise
    return broke


def fail(items: Iterable[Item], problem: Exception) -> None:
    """Make a broken connection the fault of those items that are open; raise what is not the connection's."""
    if isinstance(problem, InputError):
        raise problem
    for item in items:
        fault = fault_of(problem, subject=f"{item.target.site}:{item.target.path}")
        if fault is None:
            raise problem
        if item.is_open:
            item.fault = fault


def _worthy(lanes: Sequence[Lane], most: int) -> Sequence[Lane]:
    most = min(most, len(lanes))
    if most < 2:
        return lanes[:most]
    lanes[0].connect()
    return lanes[: connections_for(lanes[0], fewest=1, most=most)]
