"""What carries whole files for us: a program or a service that has a wire of its own."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from transfer.brake import Brake
from transfer.model import Features
from transfer.store import ByteStore

_LOOK_S = 0.05


@dataclass(frozen=True)
class Load:
    """One file, or a part of one, on its way.

    Attributes
    ----------
    source_path
        Below the source's root.
    partial_path
        Below the destination's root. Its folder and the file exist; what the file has inside of this load
        is to be overwritten, what it has outside stays.
    file_bytes
        Size of the whole file.
    offset_bytes, size_bytes
        The part that is to be carried: the whole file for carriers that have no `segment_bytes`, or what a
        partial file lacks at its end for those that continue it.
    """

    source_path: str
    partial_path: str
    file_bytes: int
    offset_bytes: int
    size_bytes: int


class Watch:
    """Looks how far loads have come, in the destination itself, and tells it.

    The times at which it saw the first and the last bytes come are the carrier's best clock where the tool
    itself does not say how long it took to start.

    Parameters
    ----------
    destination
        Store that the partial files lie in.
    tell
        Called with a load's partial path and how many of its bytes have arrived.
    """

    def __init__(
        self, destination: Callable[[], ByteStore], loads: Sequence[Load], tell: Callable[[str, int], None]
    ) -> None:
        self._destination = destination
        self._tell = tell
        self._open = deque(loads)
        self._arrived_bytes = {load.partial_path: 0 for load in loads}
        self._all_bytes = 0
        self.begin()

    def look(self) -> int:
        """Look at some files that are not whole, for 0.05 s; give the bytes of all that have arrived so far."""
        enough_at_s = time.monotonic() + _LOOK_S
        for _ in range(len(self._open)):
            load = self._open.popleft()
            state = self._destination().stat(load.partial_path)
            arrived_bytes = min(load.size_bytes, max(0, (state.bytes if state else 0) - load.offset_bytes))
            self.report(load.partial_path, arrived_bytes)
            if arrived_bytes < load.size_bytes:
                self._open.append(load)
            if time.monotonic() > enough_at_s:
                break
        if self._all_bytes == self._before_bytes:
            self._nothing_at_s = time.monotonic()
        return self._all_bytes

    def begin(self) -> None:
        """Start the clock of `wire_seconds` anew."""
        self._before_bytes = self._all_bytes
        self._nothing_at_s = self._grew_at_s = time.monotonic()

    def report(self, partial_path: str, arrived_bytes: int) -> None:
        """Tell what the carrier knows itself."""
        more_bytes = arrived_bytes - self._arrived_bytes[partial_path]
        if more_bytes > 0:
            self._arrived_bytes[partial_path] = arrived_bytes
            self._all_bytes += more_bytes
            self._grew_at_s = time.monotonic()
            self._tell(partial_path, arrived_bytes)

    def arrived_bytes(self, partial_path: str) -> int:
        """How much of a load was seen to have arrived."""
        return self._arrived_bytes[partial_path]

    @property
    def wire_seconds(self) -> float:
        """From the last look that saw nothing to the last that saw more than the one before."""
        return max(0.0, self._grew_at_s - self._nothing_at_s)


class Carrier(Protocol):
    """Puts files under their partial names; verifying and publishing them is `CarriedMover`'s business."""

    @property
    def features(self) -> Features:
        """What it can do."""

    @property
    def most_files(self) -> int:
        """How many small files it takes at once, 1 or more."""

    @property
    def segment_bytes(self) -> int | None:
        """Large files are carried in parts of this size, each resumed on its own; None: it carries whole files."""

    @property
    def continues_partial(self) -> bool:
        """Whether it writes a file from its start to its end, so that one that broke off is kept and continued."""

    def carry(self, loads: Sequence[Load], watch: Watch, brake: Brake) -> float:
        """Carry the loads; return the seconds of it that only started and ended the tool (0 where it cannot tell).

        When an error is raised, files may have been carried already: each is verified anyway.

        Raises
        ------
        RetryableFault, PermanentFault, InputError, Cancelled
            What the program or service said, in our words.
        """

    def close(self) -> None:
        """Give back what it holds."""
