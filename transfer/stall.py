"""A watch over one connection: no progress for too long breaks it."""

from __future__ import annotations

import errno
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress


class StallWatch:
    """Shuts a socket down when one wait on it lasts longer than `stall_s`.

    Time limits of the SSH library are not enough: they do not cover a send that blocks inside the library
    because the other side stopped reading. The limit is for each wait, so that a transfer of any size may
    take as long as it makes progress.
    """

    def __init__(self, connection: socket.socket, stall_s: float) -> None:
        self._connection = connection
        self._stall_s = stall_s
        self._waiting_since: float | None = None
        self._ended = threading.Event()
        self.fired = False
        self._thread = threading.Thread(target=self._watch, name="camnet-stall-watch", daemon=True)
        self._thread.start()

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Watch what happens in the block.

        A broken connection comes out as `TimeoutError` when it was us, and as `ConnectionResetError` where
        the SSH library has a bare `OSError` for it.
        """
        self._waiting_since = time.monotonic()
        try:
            yield
        except Exception as error:
            if self.fired:
                raise TimeoutError(f"no progress for {self._stall_s:g} s") from error
            if isinstance(error, OSError) and error.errno is None and not isinstance(error, TimeoutError):
                raise ConnectionResetError(errno.ECONNRESET, str(error)) from error
            raise
        finally:
            self._waiting_since = None

    def close(self) -> None:
        """End the watch."""
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._ended.wait(min(1.0, self._stall_s / 5)):
            since = self._waiting_since
            if since is not None and time.monotonic() - since > self._stall_s:
                self.fired = True
                with suppress(OSError):  # the connection may be gone already
                    self._connection.shutdown(socket.SHUT_RDWR)
                return
