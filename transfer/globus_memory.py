"""What was published in a Globus collection: a small file beside the journals, for ends that tell no digests."""

from __future__ import annotations

import json
import os
from pathlib import Path

from tasks import atomic


class GlobusMemory:
    """Size, modification time and digest of the files that were published in one collection.

    A file counts as the same while the service tells the size and time that it had when a task had verified it;
    the time has whole seconds. JSON Lines, only appended to; the last line about a path counts.

    Parameters
    ----------
    path
        The file; it may be missing.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._known: dict[str, tuple[int, str, str]] | None = None

    def digest(self, path: str, size_bytes: int, last_modified: str) -> str | None:
        """Give the digest of a file that has this size and time, or None where it is not known."""
        known = self._all().get(path)
        return known[2] if known and known[:2] == (size_bytes, last_modified) else None

    def add(self, path: str, size_bytes: int, last_modified: str, digest: str) -> None:
        """Remember one file.

        Raises
        ------
        PermanentFault, InputError
            The file cannot be written.
        """
        self._all()[path] = (size_bytes, last_modified, digest)
        fact = {"path": path, "bytes": size_bytes, "last_modified": last_modified, "digest": digest}
        # The line begins with its newline: one that a writer died in stays alone.
        line = b"\n" + json.dumps(fact).encode()
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
            try:
                atomic.write_all(descriptor, line)
            finally:
                os.close(descriptor)
        except OSError as error:
            raise atomic.disk_fault(error, self._path) from error

    def _all(self) -> dict[str, tuple[int, str, str]]:
        if self._known is None:
            self._known = {}
            lines = self._path.read_bytes().splitlines() if self._path.exists() else []
            for line in lines:
                try:
                    fact = json.loads(line)
                    self._known[str(fact["path"])] = (
                        int(fact["bytes"]),
                        str(fact["last_modified"]),
                        str(fact["digest"]),
                    )
                except (ValueError, TypeError, KeyError):
                    continue  # empty or torn: that file is sent again
        return self._known
