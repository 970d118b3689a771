"""Where bytes lie: the little that the shared engine needs of a place."""

from __future__ import annotations

from collections.abc import Generator, Iterable
from dataclasses import dataclass
from typing import Protocol

from tasks.errors import IntegrityError


@dataclass(frozen=True)
class FileState:
    """A file as it lies in a store.

    Attributes
    ----------
    bytes
        Its size.
    digest
        ``sha256:<hex>`` of its content; None when it was not asked for.
    digested_by
        How the digest was found, in words for the ledger.
    """

    bytes: int
    digest: str | None = None
    digested_by: str | None = None


class Follower(Protocol):
    """Digests a file from its front while it is still being written; used by several threads, one at a time."""

    def advance(self, size_bytes: int) -> None:
        """Say that the first so many bytes have arrived; returns at once."""

    def finish(self) -> FileState | None:
        """Digest the rest and give the file's state; None where that failed, and the file has to be read anew."""

    def close(self) -> None:
        """Give up; no error after `finish`."""


class ByteStore(Protocol):
    """A folder with files, here or elsewhere, used by one thread at a time.

    Paths are relative to the store's root, with forward slashes. No method follows a symbolic link below
    the root: it raises `PermanentFault` instead. Errors of the operating system or the connection come out
    as they are (`OSError`, ``EOFError``, ``paramiko.SSHException``); `transfer.faults.fault_of` names them.
    """

    def stat(self, path: str, *, digest: bool = False) -> FileState | None:
        """Describe the regular file at `path`, or return None when nothing is there."""

    def read(self, path: str, offset_bytes: int, size_bytes: int) -> Generator[bytes, None, None]:
        """Yield exactly `size_bytes` of the file; raise `IntegrityError` if it ends before."""

    def write(self, path: str, offset_bytes: int, blocks: Iterable[bytes | memoryview]) -> None:
        """Write the blocks one after the other; make the file and its folders when they are missing.

        On return the store has acknowledged every byte.
        """

    def follow(self, path: str) -> Follower | None:
        """Begin to digest a file that exists and is being written; None where the store cannot."""

    def publish(self, partial: str, final: str) -> None:
        """Flush `partial` to disk and rename it to `final`, in the same folder, replacing what is there at once."""

    def remove(self, path: str) -> None:
        """Remove the file at `path`; no error when there is none."""

    def remove_folder(self, path: str) -> None:
        """Remove the folder at `path` if it is empty; no error when it is not, or when there is none."""

    def free_bytes(self) -> int | None:
        """Room for files below the root, or None where that cannot be told."""

    def close(self) -> None:
        """Give back what the store holds; it is not used afterwards."""


def ended_early(subject: object, end_bytes: int) -> IntegrityError:
    """Describe a file that is shorter than it was when its transfer began."""
    return IntegrityError(
        f"ends at byte {end_bytes}, too early",
        subject=subject,
        remedy="let the files rest while they are transferred, and make the manifest again",
    )
