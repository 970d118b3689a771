"""One stream of a transfer: a connection to each end, opened when needed and again after it broke."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

from transfer.store import ByteStore

T = TypeVar("T")


class Lane:
    """A source and a destination store for one thread.

    Parameters
    ----------
    open_source, open_destination
        Open a new connection to either end.
    """

    def __init__(self, open_source: Callable[[], ByteStore], open_destination: Callable[[], ByteStore]) -> None:
        self._open_source = open_source
        self._open_destination = open_destination
        self._source: ByteStore | None = None
        self._destination: ByteStore | None = None

    @property
    def source(self) -> ByteStore:
        """The source, connected."""
        if self._source is None:
            self._source = self._open_source()
        return self._source

    @property
    def destination(self) -> ByteStore:
        """The destination, connected."""
        if self._destination is None:
            self._destination = self._open_destination()
        return self._destination

    @property
    def is_connected(self) -> bool:
        """Whether both ends were opened; the connections may be broken."""
        return self._source is not None and self._destination is not None

    def connect(self) -> None:
        """Connect both ends now, so that no connecting is counted as transfer."""
        _ = self.source, self.destination

    def close(self) -> None:
        """Close both ends; the next use connects again."""
        source, destination = self._source, self._destination
        self._source = self._destination = None
        for store in (source, destination):
            if store is not None:
                store.close()


def taken(queue: deque[T]) -> T | None:
    """Take the first of a queue that other lanes empty, too; None where they have."""
    with suppress(IndexError):
        return queue.popleft()
    return None
