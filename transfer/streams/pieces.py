"""A large file on its way over several streams, each with pieces ahead of their acknowledgements."""

from __future__ import annotations

import math
import threading
from collections import deque
from collections.abc import Generator, Iterable, Sequence
from contextlib import closing

from tasks.errors import RetryableFault
from transfer import ranges
from transfer.connections import connections_for
from transfer.effort import Effort
from transfer.file_move import FileMove
from transfer.journal import Journal, Notes
from transfer.lane import Lane
from transfer.local import LocalStore
from transfer.ranges import Range
from transfer.store import ended_early
from transfer.streams.damage import damaged_parts
from transfer.streams.far_store import FarStore

FEWEST_STREAMS = 2


class StreamedFile(FileMove):
    """A `FileMove` whose streams do not wait for one piece before they send the next.

    What is on its way at once over one stream is a chunk; it goes in pieces, and each is acknowledged and noted
    in the journal. SSH and TLS see to it that it is what was sent. Where the whole is wrong all the same, its pieces
    are compared, and only those that differ are sent again.
    """

    def _send(self, todo: list[Range], lanes: Sequence[Lane], journal: Journal, effort: Effort) -> None:
        lanes = lanes[: connections_for(lanes[0], fewest=FEWEST_STREAMS, most=len(lanes))]
        step = math.ceil(self._chunk_bytes / _in_flight(lanes[0]))
        pieces = [
            (first, min(step, start + length - first))
            for start, length in todo
            for first in range(start, start + length, step)
        ]
        super()._send(pieces, lanes, journal, effort)

    def _drain(self, lane: Lane, queue: deque[Range], ended: threading.Event, journal: Journal, effort: Effort) -> None:
        asked: deque[Range] = deque()
        sent: deque[Range] = deque()
        try:
            most = _in_flight(lane)
            while True:
                while len(asked) + len(sent) < most and not ended.is_set() and (part := _next(queue)):
                    self._begin(lane, part, journal, effort)
                    asked.append(part)
                if asked:
                    part = asked.popleft()
                    self._forward(lane, part, effort)
                    sent.append(part)
                if sent and (not asked or not isinstance(lane.destination, FarStore)):
                    if isinstance(lane.destination, FarStore):
                        lane.destination.acknowledge_piece(self._target.partial)
                    self._arrive(sent.popleft(), journal)
                if not asked and not sent and (ended.is_set() or not queue):
                    return
        except BaseException:  # of our bugs too: the other lanes must not go on alone
            ended.set()
            lane.close()
            raise

    def _begin(self, lane: Lane, part: Range, journal: Journal, effort: Effort) -> None:
        again_bytes = journal.begin(part)
        with self._mutex:
            effort.bytes_resent += again_bytes
        if isinstance(lane.source, FarStore):
            lane.source.ask_piece(self._source_path, part)

    def _forward(self, lane: Lane, part: Range, effort: Effort) -> None:
        """Take a piece from the source and hand it to the destination."""
        source, destination = lane.source, lane.destination
        if isinstance(source, LocalStore) and isinstance(destination, FarStore):
            with source.opened(self._source_path) as descriptor:
                sent_bytes = destination.send_file_piece(
                    self._target.partial, part, descriptor, lambda size_bytes: self._count(size_bytes, effort)
                )
            if sent_bytes < part[1]:
                raise ended_early(self._source_name, part[0] + sent_bytes)
            return
        blocks: Generator[bytes | memoryview, None, None]
        if isinstance(source, FarStore):
            blocks = source.piece(self._source_path, part)
        else:
            blocks = source.read(self._source_path, *part)
        with closing(blocks):
            counted: Iterable[bytes | memoryview] = self._counted(blocks, effort)
            if isinstance(destination, FarStore):
                destination.send_piece(self._target.partial, part, counted)
            else:
                destination.write(self._target.partial, part[0], counted)  # type: ignore[arg-type]  # a local store takes any buffer

    def _explain_damage(self, lane: Lane, journal: Notes, partial: str) -> None:
        """Have only those pieces sent again that differ from the source's, the first time that there are any."""
        if not self._damaged and isinstance(journal, Journal):
            damaged = damaged_parts(lane, self._source_path, partial, self._entry.bytes)
            if 0 < ranges.total_bytes(damaged) < self._entry.bytes and self._is_source_right(lane):
                self._damaged = True
                journal.forget(damaged)
                raise RetryableFault(
                    f"{ranges.total_bytes(damaged)} bytes were damaged on their way or at rest; these are sent again",
                    subject=f"{self._target.site}:{self._target.path}",
                )
        super()._explain_damage(lane, journal, partial)

    def _arrive(self, part: Range, journal: Journal) -> None:
        arrived_bytes = journal.arrive(part)
        with self._mutex:
            self.arrived(arrived_bytes)
            if self._follower:
                self._follower.advance(ranges.prefix_bytes(journal.arrived))


def _in_flight(lane: Lane) -> int:
    """Pieces that make a chunk: what one end has not sent yet and the other not acknowledged."""
    return 2 * sum(isinstance(end, FarStore) for end in (lane.source, lane.destination)) or 1


def _next(queue: deque[Range]) -> Range | None:
    try:
        return queue.popleft()
    except IndexError:
        return None
