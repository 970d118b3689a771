"""A large file on its way over several SFTP connections."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence

from transfer.effort import Effort
from transfer.journal import Journal
from transfer.lane import Lane
from transfer.pieced_file import PiecedFile
from transfer.ranges import Range


class SftpFile(PiecedFile):
    """A `PiecedFile` whose first connection sends while the others are being opened, one after the other."""

    def _connect(self, lanes: Sequence[Lane]) -> None:
        self._knocking = threading.Lock()
        lanes[0].connect()

    def _pump(self, lane: Lane, queue: deque[Range], ended: threading.Event, journal: Journal, effort: Effort) -> None:
        if not lane.is_connected:
            with self._knocking:
                if queue and not ended.is_set():
                    lane.connect()
        if lane.is_connected:
            super()._pump(lane, queue, ended, journal, effort)
