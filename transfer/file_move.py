"""The way of one file: look → send what is missing → verify at the destination → publish.

Killed between any two steps, nothing is lost: the partial file and the journal stay, and the next call goes
on from them. The final name changes in one step at the end, after the bytes under the partial name were
found to be the manifest's.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence, Sized
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import TypeVar

from tasks.errors import CamNetError, IntegrityError, RetryableFault
from transfer import ranges
from transfer.brake import Brake
from transfer.effort import Effort
from transfer.journal import Journal, Notes, Target
from transfer.lane import Lane, taken
from transfer.local import LocalStore
from transfer.manifest import Entry
from transfer.ranges import Range
from transfer.store import Follower

T = TypeVar("T", bound=Sized)
_CHANGED = "make the manifest again, then transfer again"


class FileMove:
    """One file on its way.

    Parameters
    ----------
    source_path
        Path of the file below the source's root.
    target
        Where it goes and what it has to be.
    source_site
        For messages.
    arrived
        Called with the number of its bytes that are at the destination.
    brake
        Asked before each block is sent.
    """

    def __init__(
        self,
        entry: Entry,
        source_path: str,
        target: Target,
        *,
        source_site: str,
        chunk_bytes: int,
        arrived: Callable[[int], None],
        brake: Brake,
    ) -> None:
        self._entry = entry
        self._source_path = source_path
        self._target = target
        self._source_name = f"{source_site}:{source_path}"
        self._chunk_bytes = chunk_bytes
        self.arrived = arrived
        self._brake = brake
        self._follower: Follower | None = None
        self._damaged = False
        self._mutex = threading.Lock()

    def is_there(self, lane: Lane, effort: Effort) -> bool:
        """Whether the destination has the file already, by size and digest."""
        state = lane.destination.stat(self._target.path)
        if state is None or state.bytes != self._entry.bytes or not self._verified(lane, self._target.path, effort):
            return False
        self.arrived(self._entry.bytes)
        return True

    def attempt(self, lanes: Sequence[Lane], journal: Journal, effort: Effort) -> None:
        """Go the whole way once, from what has arrived before.

        Raises
        ------
        RetryableFault
            Another attempt may succeed.
        IntegrityError
            The source is not what the manifest says, or the bytes were damaged twice on their way.
        OSError, EOFError, paramiko.SSHException
            As the stores raise them.
        """
        todo = self.prepare(lanes[0], journal)
        if len(todo) > 1:
            self._follower = lanes[0].destination.follow(self._target.partial)
        try:
            self._send(todo, lanes[: max(1, len(todo))], journal, effort)
            self.finish(lanes[0], journal, effort)
        finally:
            if self._follower:
                self._follower.close()
                self._follower = None

    def prepare(self, lane: Lane, journal: Journal, *, continues: bool = False) -> list[Range]:
        """Look at the source, make partial file and journal fit each other; return what has to be sent.

        Parameters
        ----------
        continues
            A partial file of this version was written from its start to its end: what it has is kept, and
            only its rest has to be sent, although nothing of it was acknowledged.
        """
        self.check_source(lane)
        begun_bytes = self._fit_partial(lane, journal, continues=continues)
        there = journal.arrived or ([(0, begun_bytes)] if begun_bytes else [])
        self.arrived(ranges.total_bytes(there))
        return ranges.missing(there, self._entry.bytes, self._chunk_bytes)

    def finish(
        self,
        lane: Lane,
        journal: Notes,
        effort: Effort,
        *,
        doubt: CamNetError | None = None,
        partial: str | None = None,
    ) -> None:
        """Verify what lies under the partial name and give it its final one.

        Parameters
        ----------
        doubt
            Raised when the file is not right, instead of asking for the reason: what broke off when it was sent.
        partial
            Where it lies; None: under the target's own partial name.
        """
        partial = partial or self._target.partial
        if not self._verified(lane, partial, effort):
            if doubt:
                raise doubt
            self._explain_damage(lane, journal, partial)
        lane.destination.publish(partial, self._target.path)
        self.arrived(self._entry.bytes)
        journal.discard()

    def clean(self, lane: Lane, journal: Journal) -> None:
        """Remove the partial file, that of an earlier version, and the journal."""
        for partial in (self._target.partial, journal.stale_partial):
            if partial:
                lane.destination.remove(partial)
        journal.discard()

    def check_source(self, lane: Lane) -> None:
        """Raise `IntegrityError` where the source is not there, or has another size."""
        state = lane.source.stat(self._source_path)
        if state is None:
            raise IntegrityError("is in the manifest but not there", subject=self._source_name, remedy=_CHANGED)
        if state.bytes != self._entry.bytes:
            raise IntegrityError(
                f"has {state.bytes} bytes, the manifest says {self._entry.bytes}",
                subject=self._source_name,
                remedy=_CHANGED,
            )

    def _fit_partial(self, lane: Lane, journal: Journal, *, continues: bool) -> int:
        """Return the bytes of a kept partial file of which the journal does not say that they arrived."""
        if journal.stale_partial:
            lane.destination.remove(journal.stale_partial)
            journal.stale_partial = None
        state = lane.destination.stat(self._target.partial)
        needed = max((start + length for start, length in journal.arrived), default=0)
        fits = state is not None and needed <= state.bytes <= self._entry.bytes
        if state and continues and journal.arrived:
            # Chunks of another protocol, over several streams, leave holes that the size does not show.
            fits = state.bytes == ranges.total_bytes(journal.arrived)
        if journal.arrived and not fits:
            journal.restart()
        elif journal.arrived:
            return 0
        elif state and fits and continues and journal.begun:
            return state.bytes
        if state is not None:
            lane.destination.remove(self._target.partial)
        lane.destination.write(self._target.partial, 0, ())
        return 0

    def _send(self, todo: list[Range], lanes: Sequence[Lane], journal: Journal, effort: Effort) -> None:
        """Send the chunks over all lanes; the first error ends the others after their chunk."""
        self._connect(lanes)
        effort.streams = len(lanes)
        queue, ended = deque(todo), threading.Event()
        start = time.monotonic()
        try:
            if len(lanes) == 1:
                self._drain(lanes[0], queue, ended, journal, effort)
                return
            with ThreadPoolExecutor(len(lanes), thread_name_prefix="camnet-stream") as pool:
                streams = [pool.submit(self._drain, lane, queue, ended, journal, effort) for lane in lanes]
                try:
                    errors = [error for stream in streams if (error := stream.exception())]
                finally:
                    ended.set()
        finally:
            effort.wire_seconds = time.monotonic() - start if todo else 0.0
        if errors:
            raise next((error for error in errors if not _passes(error)), errors[0])

    def _connect(self, lanes: Sequence[Lane]) -> None:
        for lane in lanes:  # one after the other: servers drop clients that knock many times at once
            lane.connect()

    def _drain(self, lane: Lane, queue: deque[Range], ended: threading.Event, journal: Journal, effort: Effort) -> None:
        try:
            self._pump(lane, queue, ended, journal, effort)
        except BaseException:  # of our bugs too: the other lanes must not go on alone
            ended.set()
            lane.close()
            raise

    def _pump(self, lane: Lane, queue: deque[Range], ended: threading.Event, journal: Journal, effort: Effort) -> None:
        """Send chunks over one lane until there are none."""
        while not ended.is_set() and (part := taken(queue)):
            self._begin(lane, part, journal, effort)
            self._forward(lane, part, effort)
            self._arrive(part, journal)

    def _begin(self, lane: Lane, part: Range, journal: Journal, effort: Effort) -> None:
        again_bytes = journal.begin(part)
        with self._mutex:
            effort.bytes_resent += again_bytes

    def _forward(self, lane: Lane, part: Range, effort: Effort) -> None:
        """Take a part from the source and hand it to the destination."""
        source, destination = lane.source, lane.destination
        if isinstance(source, LocalStore) and isinstance(destination, LocalStore):
            with closing(destination.copy_from(source, self._source_path, self._target.partial, *part)) as steps:
                for step_bytes in steps:
                    self._count(step_bytes, effort)
        else:
            with closing(source.read(self._source_path, *part)) as blocks:
                destination.write(self._target.partial, part[0], self._counted(blocks, effort))

    def _arrive(self, part: Range, journal: Journal) -> None:
        arrived_bytes = journal.arrive(part)
        with self._mutex:
            self.arrived(arrived_bytes)
            if self._follower:
                self._follower.advance(ranges.prefix_bytes(journal.arrived))

    def _counted(self, blocks: Iterable[T], effort: Effort) -> Iterator[T]:
        for block in blocks:
            self._count(len(block), effort)
            yield block

    def _count(self, size_bytes: int, effort: Effort) -> None:
        """Wait until so many bytes may go, and count them as sent."""
        self._brake.pass_on(size_bytes)
        with self._mutex:
            effort.wire_bytes += size_bytes

    def _verified(self, lane: Lane, path: str, effort: Effort) -> bool:
        start = time.monotonic()
        try:
            state = self._follower.finish() if self._follower else None
            state = state or lane.destination.stat(path, digest=True)
        finally:
            effort.verify_seconds += time.monotonic() - start
        if state is None:
            return False
        effort.verified_by = state.digested_by
        return state.bytes == self._entry.bytes and state.digest == self._entry.digest

    def _is_source_right(self, lane: Lane) -> bool:
        """Whether the source still is what the manifest says; reads all of it."""
        source = lane.source.stat(self._source_path, digest=True)
        return source is not None and source.digest == self._entry.digest

    def _explain_damage(self, lane: Lane, journal: Notes, partial: str) -> None:
        """Find out at which side the bytes went wrong, and raise what follows from it."""
        lane.destination.remove(partial)
        journal.restart()
        if not self._is_source_right(lane):
            raise IntegrityError("was changed after the manifest", subject=self._source_name, remedy=_CHANGED)
        if self._damaged:
            raise IntegrityError(
                "was damaged on its way, twice; the source is right",
                subject=f"{self._target.site}:{self._target.path}",
                remedy="have the disk and memory of both sites checked",
            )
        self._damaged = True
        raise RetryableFault(
            "was damaged on its way or at rest; the source is right and all of it is sent again",
            subject=f"{self._target.site}:{self._target.path}",
        )


def _passes(error: BaseException) -> bool:
    return isinstance(error, RetryableFault | ConnectionError | TimeoutError | EOFError)
