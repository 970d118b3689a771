"""A large file on its way over several SFTP connections, each with pieces ahead of their acknowledgements."""

from __future__ import annotations

import math
import threading
from collections import deque
from collections.abc import Sequence
from contextlib import closing

from transfer import ranges
from transfer.connections import connections_for
from transfer.effort import Effort
from transfer.file_move import FileMove
from transfer.journal import Journal
from transfer.lane import Lane
from transfer.ranges import Range
from transfer.sftp import SftpStore

_FEWEST = 2


class SftpFile(FileMove):
    """A `FileMove` whose connections do not wait for one piece before they send the next.

    What is on its way at once over one connection is a chunk; it goes in pieces, and each is noted in the journal when
    the server has acknowledged all of it. The file is opened once by each connection. The first connection sends while
    the others are being opened, one after the other.
    """

    def _connect(self, lanes: Sequence[Lane]) -> None:
        self._knocking = threading.Lock()
        lanes[0].connect()

    def _send(self, todo: list[Range], lanes: Sequence[Lane], journal: Journal, effort: Effort) -> None:
        lanes = lanes[: connections_for(lanes[0], fewest=_FEWEST, most=len(lanes))]
        step = math.ceil(self._chunk_bytes / _most_pieces(lanes[0]))
        pieces = [
            (first, min(step, start + length - first))
            for start, length in todo
            for first in range(start, start + length, step)
        ]
        super()._send(pieces, lanes, journal, effort)

    def _drain(self, lane: Lane, queue: deque[Range], ended: threading.Event, journal: Journal, effort: Effort) -> None:
        asked: deque[Range] = deque()
        sent: deque[tuple[Range, int]] = deque()
        try:
            if not self._is_open(lane, queue, ended):
                return
            most = _most_pieces(lane)
            while True:
                while len(asked) + len(sent) < most and not ended.is_set() and (part := _next(queue)):
                    self._begin(lane, part, journal, effort)
                    asked.append(part)
                if asked:
                    part = asked.popleft()
                    sent.append((part, self._forward(lane, part, effort)))
                if sent and (not asked or not isinstance(lane.destination, SftpStore)):
                    self._arrive(lane, *sent.popleft(), journal)
                if not asked and not sent and (ended.is_set() or not queue):
                    break
            self._end(lane)
        except BaseException:  # of our bugs too: the other lanes must not go on alone
            ended.set()
            lane.close()
            raise

    def _is_open(self, lane: Lane, queue: deque[Range], ended: threading.Event) -> bool:
        """Open a connection, when it is its turn and still needed."""
        if not lane.is_connected:
            with self._knocking:
                if queue and not ended.is_set():
                    lane.connect()
        return lane.is_connected

    def _begin(self, lane: Lane, part: Range, journal: Journal, effort: Effort) -> None:
        again_bytes = journal.begin(part)
        with self._mutex:
            effort.bytes_resent += again_bytes
        if isinstance(lane.source, SftpStore):
            lane.source.ask_piece(self._source_path, part)

    def _forward(self, lane: Lane, part: Range, effort: Effort) -> int:
        """Hand a piece from the source to the destination; give the mark of its acknowledgement."""
        source, destination = lane.source, lane.destination
        path = self._source_path
        pieces = source.piece(path, part) if isinstance(source, SftpStore) else source.read(path, *part)
        with closing(pieces) as blocks:
            counted = self._counted(blocks, effort)
            if isinstance(destination, SftpStore):
                return destination.send_piece(self._target.partial, part[0], counted)
            destination.write(self._target.partial, part[0], counted)
        return 0

    def _arrive(self, lane: Lane, part: Range, mark: int, journal: Journal) -> None:
        if isinstance(lane.destination, SftpStore):
            lane.destination.acknowledge_piece(self._target.partial, mark)
        arrived_bytes = journal.arrive(part)
        with self._mutex:
            self.arrived(arrived_bytes)
            if self._follower:
                self._follower.advance(ranges.prefix_bytes(journal.arrived))

    def _end(self, lane: Lane) -> None:
        if isinstance(lane.source, SftpStore):
            lane.source.end_pieces(self._source_path)
        if isinstance(lane.destination, SftpStore):
            lane.destination.end_pieces(self._target.partial)


def _most_pieces(lane: Lane) -> int:
    """Pieces that make a chunk: what one end has not sent yet and the other not acknowledged."""
    return 2 * sum(isinstance(end, SftpStore) for end in (lane.source, lane.destination)) or 1


def _next(queue: deque[Range]) -> Range | None:
    try:
        return queue.popleft()
    except IndexError:
        return None
