"""What of a file has arrived already: a small file beside the ledger, one line a fact, flushed to disk.

The journal lives at the machine that runs the transfer, in ``journals/`` beside the ledger: the source may be
read-only, and either end may be remote. It is removed with the partial file, when that gets its final name.
"""

from __future__ import annotations

import fcntl
import json
import os
import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from tasks import atomic
from tasks.digests import bytes_digest
from tasks.errors import RetryableFault
from transfer import ranges
from transfer.ranges import Range

_SCHEMA = "camnet-journal/1"


@dataclass(frozen=True)
class Target:
    """The one version of a file that a journal speaks of."""

    site: str
    root: str
    path: str
    bytes: int
    digest: str

    @property
    def partial(self) -> str:
        """Path of the unfinished file, beside the final one; another version has another name."""
        folder, slash, _ = self.path.rpartition("/")
        return f"{folder}{slash}.{place_name(self.path, self.digest)}.camnet-part"

    def journal_name(self) -> str:
        """File name of the journal: the same for all versions, so that one finds the partial of the one before."""
        return f"{place_name(self.site, self.root, self.path)}.journal"


class Notes(Protocol):
    """What has to be told of a partial file; a `Journal` is one."""

    def restart(self) -> None:
        """Forget what has arrived: the partial file is gone."""

    def discard(self) -> None:
        """Forget all: the file has its final name."""


class Journal:
    """The open journal of one file; holds a lock, so that no second transfer of the same file runs here.

    Parameters
    ----------
    flushed
        Whether its facts outlive the machine; for a file of one chunk there is nothing to go on from.

    Attributes
    ----------
    arrived
        Ranges that the destination has acknowledged.
    begun
        Ranges that were put on the wire at some time; what is in here but not in `arrived` is sent again.
    stale_partial
        Partial file of an earlier version, to be removed; None when there is none.

    Raises
    ------
    RetryableFault
        Another process is moving the same file.
    """

    def __init__(self, folder: Path, target: Target, *, flushed: bool = True) -> None:
        self._path = folder / target.journal_name()
        self._target = target
        self._flushed = flushed
        self._mutex = threading.Lock()
        self._descriptor = _locked(self._path)
        self.arrived: list[Range] = []
        self.begun: list[Range] = []
        self.stale_partial: str | None = None
        try:
            self._load()
        except BaseException:  # an interruption too must not leave it open
            self.close()
            raise

    def begin(self, part: Range) -> int:
        """Note that a range goes on the wire; return how many of its bytes had been there before."""
        with self._mutex:
            again_bytes = ranges.overlap_bytes(part, self.begun)
            self.begun = ranges.merged([*self.begun, part])
            self._append({"begun": part})
            return again_bytes

    def arrive(self, part: Range) -> int:
        """Note, durably, that a range is acknowledged; return how many bytes have arrived in all."""
        with self._mutex:
            self.arrived = ranges.merged([*self.arrived, part])
            self._append({"arrived": part})
            self._flush()
            return ranges.total_bytes(self.arrived)

    def forget(self, parts: Sequence[Range]) -> None:
        """Forget that these ranges arrived: they are damaged. What was sent stays counted."""
        with self._mutex:
            self.arrived = ranges.without(self.arrived, parts)
            self._rewrite()

    def restart(self) -> None:
        """Forget what has arrived: the partial file is gone. What was sent stays counted."""
        with self._mutex:
            self.arrived = []
            self._rewrite()

    def discard(self) -> None:
        """Remove the journal."""
        self._path.unlink(missing_ok=True)

    def close(self) -> None:
        """Give the lock back."""
        os.close(self._descriptor)

    def _load(self) -> None:
        lines = os.pread(self._descriptor, os.fstat(self._descriptor).st_size, 0).splitlines(keepends=True)
        head = _fact(lines[0]) if lines else None
        if head != _head(self._target):
            digest = head.get("digest") if head else None
            self.stale_partial = replace(self._target, digest=digest).partial if isinstance(digest, str) else None
            self._rewrite()
        elif not all(self._take(_fact(line)) for line in lines[1:]):
            # What follows a torn line is not believed, and the next line must not be glued to it.
            self._rewrite()

    def _take(self, fact: dict[str, Any] | None) -> bool:
        if fact is None:
            return False
        for name, known in (("begun", self.begun), ("arrived", self.arrived)):
            part = ranges.parsed(fact.get(name), self._target.bytes)
            if part:
                known[:] = ranges.merged([*known, part])
                return True
        return False

    def _rewrite(self) -> None:
        os.ftruncate(self._descriptor, 0)
        known = (("begun", self.begun), ("arrived", self.arrived))
        self._append(_head(self._target), *({name: part} for name, parts in known for part in parts))
        self._flush()

    def _flush(self) -> None:
        if self._flushed:
            os.fsync(self._descriptor)

    def _append(self, *facts: dict[str, Any]) -> None:
        atomic.write_all(self._descriptor, b"".join(json.dumps(fact).encode() + b"\n" for fact in facts))


def arrived_ranges(folder: Path, target: Target) -> list[Range]:
    """Read what has arrived of `target` without taking its journal; nothing where there is none."""
    try:
        lines = (folder / target.journal_name()).read_bytes().splitlines(keepends=True)
    except FileNotFoundError:
        return []
    head, *facts = (_fact(line) for line in lines) if lines else (None,)
    if head != _head(target):
        return []
    parts = (ranges.parsed(fact.get("arrived"), target.bytes) for fact in facts if fact)
    return ranges.merged([part for part in parts if part])


def _head(target: Target) -> dict[str, Any]:
    return {"schema": _SCHEMA, **vars(target)}  # `asdict` takes longer than all the rest, for each small file


def _locked(path: Path) -> int:
    while True:
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
        except FileNotFoundError:
            path.parent.mkdir(parents=True, exist_ok=True)
            continue
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            with suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(descriptor), path.stat()):
                    return descriptor
        except BlockingIOError as error:
            os.close(descriptor)
            raise RetryableFault(
                "another process is moving this file", subject=path, remedy="wait for it, or end it"
            ) from error
        # Removed between opening and locking, by a transfer that has just finished.
        os.close(descriptor)


def _fact(line: bytes) -> dict[str, Any] | None:
    try:
        fact = json.loads(line)
    except ValueError:
        return None
    return fact if isinstance(fact, dict) and line.endswith(b"\n") else None


def place_name(*parts: str) -> str:
    """Give a short file name that stands for these words alone."""
    return bytes_digest("\0".join(parts).encode()).split(":")[1][:32]
