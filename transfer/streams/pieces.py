"""A large file on its way over several streams to our far side."""

from __future__ import annotations

from tasks.errors import RetryableFault
from transfer import ranges
from transfer.effort import Effort
from transfer.journal import Journal, Notes
from transfer.lane import Lane
from transfer.local import LocalStore
from transfer.pieced_file import PiecedFile
from transfer.ranges import Range
from transfer.store import ended_early
from transfer.streams.damage import damaged_parts
from transfer.streams.far_store import FarStore


class StreamedFile(PiecedFile):
    """A `PiecedFile` that leaves this machine from its page cache.

    SSH and TLS see to it that a piece is what was sent. Where the whole is wrong all the same, its pieces
    are compared, and only those that differ are sent again.
    """

    def _forward(self, lane: Lane, part: Range, effort: Effort) -> None:
        source, destination = lane.source, lane.destination
        if not (isinstance(source, LocalStore) and isinstance(destination, FarStore)):
            super()._forward(lane, part, effort)
            return
        with source.opened(self._source_path) as descriptor:
            sent_bytes = destination.send_file_piece(
                self._target.partial, part, descriptor, lambda size_bytes: self._count(size_bytes, effort)
            )
        if sent_bytes < part[1]:
            raise ended_early(self._source_name, part[0] + sent_bytes)

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
