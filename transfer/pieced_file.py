"""A large file on its way over several connections, each with pieces ahead of their acknowledgements."""

from __future__ import annotations

import math
import threading
from collections import deque
from collections.abc import Sequence
from contextlib import closing

from transfer.connections import connections_for
from transfer.effort import Effort
from transfer.file_move import FileMove
from transfer.journal import Journal
from transfer.lane import Lane, taken
from transfer.piece_store import PieceStore
from transfer.ranges import Range

FEWEST_CONNECTIONS = 2


class PiecedFile(FileMove):
    """A `FileMove` whose connections do not wait for one piece before they send the next.

    What is on its way at once over one connection is a chunk; it goes in pieces, and each is noted in the journal
    when the destination has acknowledged it.
    """

    def _send(self, todo: list[Range], lanes: Sequence[Lane], journal: Journal, effort: Effort) -> None:
        lanes = lanes[: connections_for(lanes[0], fewest=FEWEST_CONNECTIONS, most=len(lanes))]
        step = math.ceil(self._chunk_bytes / _most_pieces(lanes[0]))
        pieces = [
            (first, min(step, start + length - first))
            for start, length in todo
            for first in range(start, start + length, step)
        ]
        super()._send(pieces, lanes, journal, effort)

    def _pump(self, lane: Lane, queue: deque[Range], ended: threading.Event, journal: Journal, effort: Effort) -> None:
        asked: deque[Range] = deque()
        sent: deque[Range] = deque()
        most = _most_pieces(lane)
        while True:
            while len(asked) + len(sent) < most and not ended.is_set() and (part := taken(queue)):
                self._begin(lane, part, journal, effort)
                asked.append(part)
            if asked:
                part = asked.popleft()
                self._forward(lane, part, effort)
                sent.append(part)
            if sent and (not asked or not isinstance(lane.destination, PieceStore)):
                if isinstance(lane.destination, PieceStore):
                    lane.destination.acknowledge_piece(self._target.partial)
                self._arrive(sent.popleft(), journal)
            if not asked and not sent and (ended.is_set() or not queue):
                break
        for end, path in ((lane.source, self._source_path), (lane.destination, self._target.partial)):
            if isinstance(end, PieceStore):
                end.end_pieces(path)

    def _begin(self, lane: Lane, part: Range, journal: Journal, effort: Effort) -> None:
        super()._begin(lane, part, journal, effort)
        if isinstance(lane.source, PieceStore):
            lane.source.ask_piece(self._source_path, part)

    def _forward(self, lane: Lane, part: Range, effort: Effort) -> None:
        source, destination = lane.source, lane.destination
        path = self._source_path
        pieces = source.piece(path, part) if isinstance(source, PieceStore) else source.read(path, *part)
        with closing(pieces) as blocks:
            counted = self._counted(blocks, effort)
            if isinstance(destination, PieceStore):
                destination.send_piece(self._target.partial, part, counted)
            else:
                destination.write(self._target.partial, part[0], counted)


def _most_pieces(lane: Lane) -> int:
    """Pieces that make a chunk: what one end has not sent yet and the other not acknowledged."""
    return 2 * sum(isinstance(end, PieceStore) for end in (lane.source, lane.destination)) or 1
