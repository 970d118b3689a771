"""How far a batch has come, how fast it goes, and when it will be there."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable

from transfer.manifest import Entry

_WINDOW_S = 15.0


class Pace:
    """Takes the progress of a mover and tells it in one line.

    What a file has when it is first heard of was there before; it counts as arrived, and not for the rate.

    Parameters
    ----------
    entries
        What is moved.
    clock
        Monotonic seconds.
    """

    def __init__(self, entries: Iterable[Entry], clock: Callable[[], float] = time.monotonic) -> None:
        self._sizes = {entry.path: entry.bytes for entry in entries}
        self._total_bytes = sum(self._sizes.values())
        self._arrived: dict[str, int] = {}
        self._arrived_bytes = 0
        self._files = 0
        self._sent_bytes = 0
        self._clock = clock
        self._marks: deque[tuple[float, int]] = deque([(clock(), 0)])

    def take(self, path: str, arrived_bytes: int) -> None:
        """Take one report of a mover: a `transfer.model.Progress`."""
        before = self._arrived.get(path)
        self._arrived[path] = arrived_bytes
        self._arrived_bytes += arrived_bytes - (before or 0)
        self._sent_bytes += max(0, arrived_bytes - before) if before is not None else 0
        was_whole = before is not None and before >= self._sizes[path]
        self._files += (arrived_bytes >= self._sizes[path]) - was_whole

    @property
    def share_percent(self) -> float:
        """Share of the bytes that are at the destination; of the files, where they are all empty."""
        if self._total_bytes:
            return 100.0 * self._arrived_bytes / self._total_bytes
        return 100.0 * self._files / len(self._sizes) if self._sizes else 100.0

    def told(self) -> str:
        """Tell files, bytes, rate and time left, the rate being that of the last 15 s."""
        now_s = self._clock()
        self._marks.append((now_s, self._sent_bytes))
        while len(self._marks) > 2 and self._marks[1][0] <= now_s - _WINDOW_S:
            self._marks.popleft()
        from_s, from_bytes = self._marks[0]
        rate = (self._sent_bytes - from_bytes) / (now_s - from_s) if now_s > from_s else 0.0
        line = (
            f"{self._files} of {len(self._sizes)} files, {self._arrived_bytes / 1e6:.1f} of "
            f"{self._total_bytes / 1e6:.1f} MB ({self.share_percent:.0f} %), {rate / 1e6:.1f} MB/s"
        )
        left_bytes = self._total_bytes - self._arrived_bytes
        return f"{line}, {_duration(left_bytes / rate)} left" if rate and left_bytes else line


def _duration(seconds: float) -> str:
    minutes, whole_s = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{whole_s:02}" if hours else f"{minutes}:{whole_s:02}"
