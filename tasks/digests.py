"""Digests of files, always with the algorithm named (standard library only)."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

from tasks import atomic

ALGORITHM = "sha256"
_BLOCK_BYTES = 1 << 20


def bytes_digest(data: bytes) -> str:
    """Digest of `data` as ``sha256:<hex>``."""
    return f"{ALGORITHM}:{hashlib.sha256(data).hexdigest()}"


def file_digest(path: Path) -> str:
    """Digest of a file's content as ``sha256:<hex>``, read in blocks of 1 MiB."""
    digest = hashlib.sha256()
    with path.open("rb", buffering=0) as file:
        while block := file.read(_BLOCK_BYTES):
            digest.update(block)
    return f"{ALGORITHM}:{digest.hexdigest()}"


class DigestIndex:
    """Remembers the digests of large files that have not changed, as git's index does.

    A whole-slide image has gigabytes, and its digest is part of the key of all that is made from it.
    An entry holds while size, inode, modification and change time are all the same; the times are
    compared for equality only, never for order, so that clocks that differ between sites do no harm.

    Parameters
    ----------
    folder
        Where the entries are kept, one small file each.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def digest(self, path: Path) -> str:
        """Digest of `path` as ``sha256:<hex>``, computed only when the file has changed."""
        known = self.known(path)
        if known is not None:
            return known
        stamp = _stamp(path)
        digest = file_digest(path)
        if _stamp(path) == stamp:
            record = {"path": str(path.resolve()), "stamp": stamp, "digest": digest}
            atomic.write_text(self._entry(path), json.dumps(record))
        return digest

    def known(self, path: Path) -> str | None:
        """Digest of `path` if it was computed before and the file is there and has not changed, else None."""
        entry = _read_entry(self._entry(path))
        try:
            unchanged = entry.get("stamp") == _stamp(path)
        except (FileNotFoundError, NotADirectoryError):
            return None
        digest = entry.get("digest")
        return digest if unchanged and isinstance(digest, str) else None

    def _entry(self, path: Path) -> Path:
        return self._folder / f"{bytes_digest(os.fsencode(path.resolve())).split(':')[1][:32]}.json"


def _stamp(path: Path) -> list[int]:
    status = path.stat()
    return [status.st_size, status.st_ino, status.st_mtime_ns, status.st_ctime_ns]


def _read_entry(entry: Path) -> dict[str, object]:
    try:
        known = json.loads(entry.read_text())
    except (FileNotFoundError, ValueError):
        return {}
    return known if isinstance(known, dict) else {}
