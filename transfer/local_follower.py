"""Digests a local file from its front, in a thread of its own, while it is still being written."""

from __future__ import annotations

import hashlib
import os
import threading

from transfer.store import FileState

_BLOCK_BYTES = 1 << 20


class LocalFollower:
    """See `transfer.store.Follower`.

    Parameters
    ----------
    descriptor
        The file, open for reading; closed at the end.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._content = hashlib.sha256()
        self._size_bytes = 0
        self._upto_bytes = 0
        self._ended = False
        self._given_up = False
        self._changed = threading.Condition()
        self._error: OSError | None = None
        self._thread = threading.Thread(target=self._follow, name="camnet-digest", daemon=True)
        self._thread.start()

    def advance(self, size_bytes: int) -> None:
        """See `Follower.advance`."""
        with self._changed:
            self._upto_bytes = max(self._upto_bytes, size_bytes)
            self._changed.notify()

    def finish(self) -> FileState | None:
        """See `Follower.finish`."""
        with self._changed:
            self._ended = True
            self._changed.notify()
        self._thread.join()
        if self._given_up or self._error:
            return None
        return FileState(self._size_bytes, f"sha256:{self._content.hexdigest()}", "read on this machine, along the way")

    def close(self) -> None:
        """See `Follower.close`."""
        self._given_up = True
        self.finish()

    def _follow(self) -> None:
        try:
            while not self._given_up:
                with self._changed:
                    self._changed.wait_for(lambda: self._ended or self._upto_bytes > self._size_bytes)
                    upto_bytes = self._upto_bytes
                    ended = self._ended
                wanted_bytes = _BLOCK_BYTES if ended else min(_BLOCK_BYTES, upto_bytes - self._size_bytes)
                block = os.pread(self._descriptor, wanted_bytes, self._size_bytes)
                if not block:
                    return
                self._content.update(block)
                self._size_bytes += len(block)
        except OSError as error:
            self._error = error
        finally:
            os.close(self._descriptor)
