"""What slows a transfer down to a limit, and what stops it."""

from __future__ import annotations

import threading
import time

from tasks.errors import RetryableFault


class Cancelled(RetryableFault):
    """The transfer was told to stop; what has arrived is kept, and the same call goes on from there."""

    def __init__(self) -> None:
        super().__init__("the transfer was cancelled", remedy="run the same command again and it goes on from there")

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), ()


class Brake:
    """Holds all streams of a mover together to a rate, until it stops them.

    Parameters
    ----------
    limit_mb_per_s
        Most payload in 10^6 bytes a second over all streams; None: as fast as it goes.
    """

    def __init__(self, limit_mb_per_s: float | None = None) -> None:
        self._bytes_per_s = None if limit_mb_per_s is None else limit_mb_per_s * 1e6
        self._free_at_s = 0.0
        self._mutex = threading.Lock()
        self._stopped = threading.Event()

    def stop(self) -> None:
        """Stop what asks this brake; may be called from any thread."""
        self._stopped.set()

    def release(self) -> None:
        """Let the next transfer go."""
        self._stopped.clear()

    @property
    def is_stopped(self) -> bool:
        """Whether `stop` was called."""
        return self._stopped.is_set()

    def wait(self, seconds: float) -> None:
        """Sleep so long; raise `Cancelled` as soon as it is stopped."""
        if self._stopped.wait(max(0.0, seconds)):
            raise Cancelled

    def pass_on(self, size_bytes: int) -> None:
        """Return when so many bytes may be sent.

        Each caller books the time that its bytes take at the limit, one after the other, so that the sum over
        all streams keeps to it whatever their number.

        Raises
        ------
        Cancelled
            The transfer was stopped.
        """
        if self._stopped.is_set():
            raise Cancelled
        if self._bytes_per_s is None:
            return
        with self._mutex:
            now_s = time.monotonic()
            mine_at_s = max(now_s, self._free_at_s)
            self._free_at_s = mine_at_s + size_bytes / self._bytes_per_s
        self.wait(mine_at_s - now_s)
