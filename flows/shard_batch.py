"""Work on many shards, where one bad shard does not stop the others."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from tasks.digests import file_digest
from tasks.errors import CamNetError, InputError, IntegrityError, PartialResult
from tasks.patches.shards.verify import verify_shard
from transfer.manifest import Entry, read_manifest

log = logging.getLogger(__name__)
T = TypeVar("T")
_TRANSFER_AGAIN = "transfer it again"


@dataclass(frozen=True, slots=True)
class Batch(Generic[T]):
    """What became of the files of a command."""

    results: list[T]
    errors: list[CamNetError]

    def failures(self) -> list[dict[str, Any]]:
        """Give the errors as plain JSON."""
        return [{"subject": error.subject, "cause": error.cause, "remedy": error.remedy} for error in self.errors]

    def raise_if_partial(self) -> None:
        """Raise the error itself if nothing could be done; otherwise say that a part could not.

        Raises
        ------
        InputError, IntegrityError, PartialResult
        """
        if self.errors and not self.results:
            raise self.errors[0]
        if self.errors:
            raise PartialResult(self._summary("failed"), remedy="mend or leave out what is named; the rest is finished")

    def raise_if_bad(self) -> None:
        """Raise for a check: one bad file is enough, since the set must not be used as it is.

        Raises
        ------
        IntegrityError
        """
        if len(self.errors) > 1:
            raise IntegrityError(self._summary("are not what they should be"), remedy=_TRANSFER_AGAIN)
        if self.errors:
            raise self.errors[0]

    def _summary(self, what: str) -> str:
        count = len(self.errors)
        return (
            f"{count} of {count + len(self.results)} {what}; each is named above, the first is {self.errors[0].subject}"
        )


def each(paths: Iterable[Path], work: Callable[[Path], T], told: Callable[[T], str] | None = None) -> Batch[T]:
    """Do `work` on each file and log what came of it; errors of single files are collected."""
    batch: Batch[T] = Batch([], [])
    for path in paths:
        try:
            batch.results.append(work(path))
        except (InputError, IntegrityError) as error:
            batch.errors.append(error)
        else:
            if told is not None:
                log.info("%s: %s", path, told(batch.results[-1]))
            continue
        log.error("%s", batch.errors[-1])
    return batch


def verify_files(paths: Iterable[Path], manifest_path: Path | None) -> Batch[tuple[Path, int]]:
    """Verify shards; with a manifest also the sizes and digests of its files, and all of them if no path is named.

    Returns
    -------
    Batch[tuple[Path, int]]
        Each good file with its rows (0 for what is no shard).
    """
    listed: dict[Path, Entry] = {}
    if manifest_path is not None:
        root = manifest_path.resolve().parent
        listed = {root / entry.path: entry for entry in read_manifest(manifest_path).entries}

    def verify(path: Path) -> tuple[Path, int]:
        if manifest_path is None:
            return path, verify_shard(path)
        entry = listed.get(path.parent.resolve() / path.name)
        if entry is None:
            raise IntegrityError(f"is not in {manifest_path}", subject=path, remedy="make the manifest again")
        _compare(path, entry)
        rows = verify_shard(path) if entry.kind == "patches" else 0
        if entry.rows is not None and entry.rows != rows:
            raise IntegrityError(f"has {rows} rows, not {entry.rows}", subject=path, remedy=_TRANSFER_AGAIN)
        return path, rows

    named = list(paths)
    return each(named or listed, verify, lambda result: f"good, {result[1]:,} patches" if result[1] else "good")


def _compare(path: Path, entry: Entry) -> None:
    try:
        size = path.stat().st_size
        digest = file_digest(path) if size == entry.bytes else None
    except OSError as error:
        raise IntegrityError(f"cannot be read ({error.strerror})", subject=path, remedy=_TRANSFER_AGAIN) from error
    if digest is None:
        raise IntegrityError(f"has {size} bytes, not {entry.bytes}", subject=path, remedy=_TRANSFER_AGAIN)
    if digest != entry.digest:
        raise IntegrityError("has other bytes than its digest says", subject=path, remedy=_TRANSFER_AGAIN)
