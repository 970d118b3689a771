"""Errors of disks and connections, told apart: what may be tried again, and what the user has to mend."""

from __future__ import annotations

import errno
import os
import socket

import paramiko

from tasks.errors import CamNetError, PermanentFault, RetryableFault

_REMEDIES = {
    errno.ENOSPC: "free some space there, then run the same command again; finished files are kept",
    errno.EDQUOT: "ask for more quota or remove files there, then run the same command again; finished files are kept",
    errno.EFBIG: "raise the account's limit of file sizes (ulimit -f), or use another file system there",
    errno.EROFS: "mount that file system writable, or name another folder in the site file",
    errno.EACCES: "give the account write permission to that folder (read permission at the source)",
    errno.EPERM: "give the account write permission to that folder (read permission at the source)",
    errno.EMFILE: "raise the limit of open files (ulimit -n), or use fewer streams",
    errno.ENFILE: "raise the system's limit of open files, or use fewer streams",
    errno.ENAMETOOLONG: "shorten the file name",
    errno.ENOENT: "check that the site's root folder exists",
    errno.ENOTDIR: "remove the file that stands where a folder is needed",
    errno.EISDIR: "remove the folder that stands where a file is needed",
    errno.EIO: "check the disk and the quota there",
}
_PASSING = {
    errno.EAGAIN, errno.EINTR, errno.EBUSY, errno.ESTALE, errno.ETIMEDOUT, errno.EPIPE, errno.ECONNRESET,
    errno.ECONNREFUSED, errno.ECONNABORTED, errno.EHOSTUNREACH, errno.EHOSTDOWN, errno.ENETUNREACH,
    errno.ENETDOWN, errno.ENETRESET, errno.ENOTCONN, errno.ESHUTDOWN, errno.ENOBUFS,
}  # fmt: skip
_LATER = "nothing is lost: run the same command again and it goes on where it stopped"


def fault_of(error: Exception, *, subject: str) -> CamNetError | None:
    """Put an error into the tree of `tasks.errors`, or return None when it is not one of the world's.

    Parameters
    ----------
    subject
        Site and path that it happened to; an error that names a file itself keeps that name.
    """
    if isinstance(error, CamNetError):
        return error
    if isinstance(error, paramiko.SSHException | EOFError | TimeoutError | ConnectionError | socket.gaierror):
        return RetryableFault(f"the connection failed ({_words(error)})", subject=subject, remedy=_LATER)
    if not isinstance(error, OSError):
        return None
    if error.errno in _PASSING:
        return RetryableFault(f"failed for now ({_words(error)})", subject=subject, remedy=_LATER)
    remedy = _REMEDIES.get(error.errno or 0, "mend that, then run the same command again")
    return PermanentFault(f"cannot be moved ({_words(error)})", subject=subject, remedy=remedy)


def _words(error: Exception) -> str:
    if isinstance(error, OSError) and error.errno:
        words = error.strerror or os.strerror(error.errno)
        return f"{words}: {error.filename}" if error.filename else words
    return str(error) or type(error).__name__
