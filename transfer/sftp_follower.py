"""The digest of a file at the far side that is still being written."""

from __future__ import annotations

from transfer.remote_digest import RemoteDigests
from transfer.store import FileState


class SftpFollower:
    """A `transfer.store.Follower` that has the far side's script digest the file `name`."""

    def __init__(self, digests: RemoteDigests, name: bytes) -> None:
        self._digests = digests
        self._name = name
        self._is_open = True
        digests.advance(name, 0)

    def advance(self, size_bytes: int) -> None:
        """See `Follower.advance`."""
        self._digests.advance(self._name, size_bytes)

    def finish(self) -> FileState | None:
        """See `Follower.finish`."""
        self._is_open = False
        found = self._digests.finished(self._name)
        return FileState(found[1], found[0], "python3 at the far side, along the way") if found else None

    def close(self) -> None:
        """See `Follower.close`."""
        if self._is_open:
            self._is_open = False
            self._digests.forget(self._name)
