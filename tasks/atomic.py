"""Files that are either complete under their final name or not there (standard library only)."""

from __future__ import annotations

import errno
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tasks.errors import InputError, PermanentFault, RetryableFault

_DISK_FAULTS = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EFBIG}
# A file server that was restarted, or does not answer: the handle is gone, the file may be there again.
_SERVER_FAULTS = {errno.ESTALE, errno.ETIMEDOUT, errno.EREMOTEIO, errno.EHOSTDOWN}
_ACCESS_FAULTS = {
    errno.EACCES,
    errno.EPERM,
    errno.ENOTDIR,
    errno.ENOENT,
    errno.EISDIR,
    errno.EEXIST,
    errno.ENAMETOOLONG,
}


@contextmanager
def atomic_path(final: Path) -> Iterator[Path]:
    """Give a temporary path in the folder of `final`; rename it to `final` when the block ends well.

    The file is flushed to disk before the rename and the folder after it, so that the final name
    means complete, also after a power cut. When the block raises, the temporary file is removed and
    whatever was under the final name is untouched.

    Raises
    ------
    PermanentFault
        The disk is full, read-only or failing.
    RetryableFault
        The file server does not answer for now.
    InputError
        The folder cannot be written by this user.
    """
    # File systems limit names in bytes, and a name may have four a character.
    stem = os.fsdecode(os.fsencode(final.name)[:180])
    temporary = final.with_name(f".{stem}.{os.getpid()}-{secrets.token_hex(4)}.part")
    try:
        with _named_faults(final, temporary):
            final.parent.mkdir(parents=True, exist_ok=True)
            yield temporary
            fsync_file(temporary)
            temporary.replace(final)
            fsync_folder(final.parent)
    finally:
        # What cannot be removed was never made, or its own error is on its way already.
        with suppress(OSError):
            temporary.unlink()


def write_bytes(final: Path, data: bytes) -> None:
    """Write `data` to `final` atomically and durably (see `atomic_path`)."""
    with atomic_path(final) as temporary:
        temporary.write_bytes(data)


def write_text(final: Path, text: str) -> None:
    """Write `text` as UTF-8 to `final` atomically and durably (see `atomic_path`)."""
    write_bytes(final, text.encode())


def fsync_file(path: Path) -> None:
    """Flush the content of a file to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def fsync_folder(folder: Path) -> None:
    """Flush the names in a folder to the disk."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _named_faults(final: Path, temporary: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        # The block may also read other files; an error that names one of those is not about `final`.
        ours = {str(path) for path in (temporary, final, *final.parents)}
        if error.filename is not None and str(error.filename) not in ours:
            raise
        raise disk_fault(error, final) from error


def disk_fault(error: OSError, path: Path | str) -> Exception:
    """Turn an operating system error on `path` into one that says what to do; others come back as they are."""
    if error.errno in _DISK_FAULTS:
        return PermanentFault(
            f"cannot be written ({os.strerror(error.errno or 0)})",
            subject=path,
            remedy="free some space or quota there, then run the same command again; finished work is kept",
        )
    if error.errno in _SERVER_FAULTS:
        return RetryableFault(
            f"cannot be written for now ({os.strerror(error.errno or 0)})",
            subject=path,
            remedy="check that its file server answers, then run the same command again; finished work is kept",
        )
    if error.errno in _ACCESS_FAULTS:
        return InputError(
            f"cannot be written ({os.strerror(error.errno or 0)})",
            subject=path,
            remedy="check that the folder exists and belongs to you, or name another one",
        )
    return error


def append_line(path: Path, line: bytes) -> None:
    """Add a line to a file with a single write, making the file and its folder when they are missing.

    Several processes may do so at once. A line that a dying process left unfinished is closed before.

    Raises
    ------
    OSError
        It cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o666)
    try:
        size_bytes = os.fstat(descriptor).st_size
        torn = size_bytes > 0 and os.pread(descriptor, 1, size_bytes - 1) != b"\n"
        write_all(descriptor, (b"\n" if torn else b"") + line + b"\n")
    finally:
        os.close(descriptor)


def write_all(descriptor: int, data: bytes) -> None:
    """Write all of `data`: a disk that fills takes the first bytes without an error, and only the next write has one.

    Raises
    ------
    OSError
        It cannot be written; some of it may be there.
    """
    left = memoryview(data)
    while len(left):
        left = left[os.write(descriptor, left) :]
