"""What carries whole files for us: a program or a service that has a wire of its own."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from transfer.brake import Brake
from transfer.model import Features
from transfer.store import ByteStore

_LOOKS = 4


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
        The part that is to be carried; the whole file for carriers that have no `segment_bytes`.
    """

    source_path: str
    partial_path: str
    file_bytes: int
    offset_bytes: int
    size_bytes: int


class Watch:
    """Looks how far loads have come, in the destination itself, and tells it.

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

    def look(self) -> int:
        """Look at the next few files that are not whole; give the bytes of all that have arrived so far."""
        for _ in range(min(_LOOKS, len(self._open))):
            load = self._open.popleft()
            state = self._destination().stat(load.partial_path)
            arrived_bytes = min(load.size_bytes, max(0, (state.bytes if state else 0) - load.offset_bytes))
            self.report(load.partial_path, arrived_bytes)
            if arrived_bytes < load.size_bytes:
                self._open.append(load)
        return sum(self._arrived_bytes.values())

    def report(self, partial_path: str, arrived_bytes: int) -> None:
        """Tell what the carrier knows itself."""
        if arrived_bytes > self._arrived_bytes[partial_path]:
            self._arrived_bytes[partial_path] = arrived_bytes
            self._tell(partial_path, arrived_bytes)


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
        """Whether it finds out by itself what of a partial file is right, so that one is kept when it broke off."""

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
