"""Which pieces of a file at the destination are not those of the source."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import zip_longest

from transfer.lane import Lane
from transfer.local import LocalStore
from transfer.ranges import Range
from transfer.store import ByteStore
from transfer.streams.far_files import checks_of
from transfer.streams.far_store import FarStore

_STEP_BYTES = 1 << 20
_MOST_STEPS = 50_000  # their checksums fit in one frame


def damaged_parts(lane: Lane, source_path: str, path: str, file_bytes: int) -> list[Range]:
    """Compare a file with its source, each read by its own side.

    Returns
    -------
    list of Range
        Parts, of 1 MiB where the file has less than 50 GB, whose CRC-32 differ; none where an end cannot tell.
    """
    step_bytes = _STEP_BYTES * max(1, -(-file_bytes // (_STEP_BYTES * _MOST_STEPS)))
    sent, arrived = _checks(lane.source, source_path, step_bytes), _checks(lane.destination, path, step_bytes)
    return [] if sent is None or arrived is None else list(_differences(sent, arrived, step_bytes, file_bytes))


def _differences(sent: list[int], arrived: list[int], step_bytes: int, file_bytes: int) -> Iterator[Range]:
    for number, (one, other) in enumerate(zip_longest(sent, arrived)):
        start = number * step_bytes
        if one != other and start < file_bytes:
            yield start, min(step_bytes, file_bytes - start)


def _checks(store: ByteStore, path: str, step_bytes: int) -> list[int] | None:
    if isinstance(store, FarStore):
        return store.checks(path, step_bytes)
    if isinstance(store, LocalStore):
        with store.opened(path) as descriptor:
            return checks_of(descriptor, step_bytes, lambda: None)
    return None
