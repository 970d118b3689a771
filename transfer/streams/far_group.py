"""Small files that get their names together. Sent to the far side as text: standard library of Python 3.6 only."""

import contextlib
import errno
import fcntl
import os
import threading
import time

from transfer.streams.far_files import Folder, Refusal, digest_of, open_file, size_of, told

TYPE_CHECKING = False  # typing takes longer to import than the rest together
if TYPE_CHECKING:
    from typing import Any

_THREADS = 8
_QUICK_S = 0.0002  # a flush that is faster has no disk to wait for


class Group:
    """Small files that get their final names together: written → flushed → digests read back → renamed.

    The flushes of one group run side by side, because file systems serve many of them with one commit, and
    each folder is flushed once.
    """

    def __init__(self, folder: Folder) -> None:
        self.folder = folder
        self.folders = {}  # type: dict[str, int]
        self.files = []  # type: list[tuple[dict[str, Any], int, Any]]

    def begin(self, request: "dict[str, Any]") -> int:
        """Open the partial file of a request (partial, final, sha256) for writing."""
        where, _, name = request["partial"].rpartition("/")
        if where not in self.folders:
            self.folders[where], _ = self.folder.enter(request["partial"], create=True)
        descriptor = open_file(self.folders[where], name, os.O_RDWR | os.O_CREAT)
        try:
            take_over(self.folders[where], name, descriptor)
        except OSError:
            os.close(descriptor)
            raise
        return descriptor

    def add(self, request: "dict[str, Any]", descriptor: int, problem: "Exception | None") -> None:
        """Take a written file, or what went wrong with it."""
        self.files.append((request, descriptor, problem))

    def commit(self) -> "list[dict[str, Any]]":
        """Give the files their names; return for each an empty record, an error, or that it is ``damaged``."""
        flushed = self._flushed()
        results = []
        for (request, descriptor, problem), late in zip(self.files, flushed):  # noqa: B905 - Python 3.6
            try:
                first = problem or late
                if first:
                    raise first
                results.append(self._named(request, descriptor))
            except (OSError, Refusal) as error:
                results.append(told(error))
            finally:
                if descriptor >= 0:
                    os.close(descriptor)
        self.files = []
        for descriptor in self.folders.values():
            os.fsync(descriptor)
            os.close(descriptor)
        self.folders = {}
        return results

    def close(self) -> None:
        """Give up: remove what has not got its name, and close everything."""
        for request, descriptor, _ in self.files:
            if descriptor >= 0:
                where, _, name = request["partial"].rpartition("/")
                with contextlib.suppress(OSError):  # the next transfer sweeps it
                    os.unlink(name.encode(), dir_fd=self.folders[where])
                os.close(descriptor)
        for descriptor in self.folders.values():
            os.close(descriptor)

    def _named(self, request: "dict[str, Any]", descriptor: int) -> "dict[str, Any]":
        if digest_of(descriptor, lambda: None) != {"bytes": request["size"], "sha256": request["sha256"]}:
            return {"damaged": True}
        where, _, name = request["partial"].rpartition("/")
        folder, final = self.folders[where], request["final"].split("/")[-1]
        size_of(folder, final)  # refuses what is no file
        os.rename(name.encode(), final.encode(), src_dir_fd=folder, dst_dir_fd=folder)
        return {}

    def _flushed(self) -> "list[OSError | None]":
        """Flush the files; return what the disk says of each."""
        late = [None] * len(self.files)  # type: list[OSError | None]

        def flush(numbers: "range") -> None:
            for number in numbers:
                try:
                    if self.files[number][2] is None:
                        os.fsync(self.files[number][1])
                except OSError as error:
                    late[number] = error

        began = time.monotonic()
        flush(range(len(self.files))[:1])
        rest = range(1, len(self.files))
        if time.monotonic() - began < _QUICK_S:
            flush(rest)
            return late
        threads = [threading.Thread(target=flush, args=(rest[first::_THREADS],)) for first in range(_THREADS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return late


def take_over(folder: int, name: str, descriptor: int) -> None:
    """Empty a partial file for us alone: what is left of a connection that broke may still be at work on it."""
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    if not os.path.samestat(os.stat(name.encode(), dir_fd=folder, follow_symlinks=False), os.fstat(descriptor)):
        raise OSError(errno.EAGAIN, "renamed meanwhile")
    os.ftruncate(descriptor, 0)
