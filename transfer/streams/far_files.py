"""Files below a root, opened step by step. Sent to the far side as text: standard library of Python 3.6 only."""

import errno
import os
import stat
import threading
import zlib

TYPE_CHECKING = False  # typing takes longer to import than the rest together
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

BLOCK_BYTES = 1 << 18
MOST_BEHIND_BYTES = 1 << 26
_FOLDER = os.O_RDONLY | os.O_DIRECTORY


class Refusal(Exception):
    """Something stands at a path that is neither read nor written: ``link``, ``names``, ``kind`` or ``early``."""

    def __init__(self, why: str, name: str, where: int = 0) -> None:
        super().__init__(why, name, where)
        self.why = why
        self.name = name
        self.where = where


def told(error: Exception) -> "dict[str, Any]":
    """Describe an `OSError` or a `Refusal` in a frame."""
    if isinstance(error, Refusal):
        return {"refused": error.why, "name": error.name, "where": error.where}
    return {"errno": getattr(error, "errno", None) or errno.EIO}


class Folder:
    """Files below `root`; no step of a path below it goes through a symbolic link.

    Each folder is opened relative to the one before, so that nothing outside can be reached also when the
    tree is changed meanwhile.
    """

    def __init__(self, root: str) -> None:
        self.root = root

    def enter(self, path: str, create: bool = False) -> "tuple[int, str]":
        """Open the folder that `path` lies in; return its descriptor and the last part of the path."""
        parts = path.split("/")
        root = self.root.encode()  # names travel as UTF-8, whatever the account's locale is
        if create:
            os.makedirs(root, exist_ok=True)  # noqa: PTH103 - as all calls on descriptors here
        descriptor = os.open(root, _FOLDER)
        try:
            for part in parts[:-1]:
                below = self._step(descriptor, part, create)
                os.close(descriptor)
                descriptor = below
        except BaseException:  # an interruption too must not leave it open
            os.close(descriptor)
            raise
        return descriptor, parts[-1]

    def open(self, path: str, flags: int, create: bool = False) -> int:
        """Open the regular file at `path`."""
        folder, name = self.enter(path, create)
        try:
            return open_file(folder, name, flags)
        finally:
            os.close(folder)

    def size(self, path: str) -> "int | None":
        """Size of the regular file at `path`, or None where nothing is."""
        try:
            folder, name = self.enter(path)
        except FileNotFoundError:
            return None
        try:
            return size_of(folder, name)
        finally:
            os.close(folder)

    def publish(self, partial: str, final: str) -> None:
        """Flush `partial` to disk, rename it to `final` in the same folder, flush the folder."""
        folder, name = self.enter(partial)
        try:
            descriptor = open_file(folder, name, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            os.rename(name.encode(), final.split("/")[-1].encode(), src_dir_fd=folder, dst_dir_fd=folder)
            os.fsync(folder)
        finally:
            os.close(folder)

    def remove(self, path: str) -> None:
        """Remove the file at `path`, if there is one."""
        try:
            folder, name = self.enter(path)
        except FileNotFoundError:
            return
        try:
            os.unlink(name.encode(), dir_fd=folder)
        except FileNotFoundError:
            return
        finally:
            os.close(folder)

    def remove_folder(self, path: str) -> None:
        """Remove the folder at `path` if it is there and empty."""
        try:
            folder, name = self.enter(path)
        except FileNotFoundError:
            return
        try:
            os.rmdir(name.encode(), dir_fd=folder)
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ENOTEMPTY, errno.EEXIST):
                raise
        finally:
            os.close(folder)

    def free_bytes(self) -> int:
        """Room for the account's files, in the nearest folder of the root that exists."""
        place = os.path.abspath(self.root.encode())  # noqa: PTH100 - of Python 3.6, and bytes
        while not os.path.isdir(place):  # noqa: PTH112 - as above
            place = os.path.dirname(place)  # noqa: PTH120 - as above
        found = os.statvfs(place)
        return found.f_bavail * found.f_frsize

    def _step(self, parent: int, name: str, create: bool) -> int:
        if name in ("", ".", ".."):
            raise Refusal("kind", name)
        try:
            return os.open(name.encode(), _FOLDER | os.O_NOFOLLOW, dir_fd=parent)
        except FileNotFoundError:
            if not create:
                raise
        except OSError as error:
            if error.errno in (errno.ELOOP, errno.ENOTDIR):
                size_of(parent, name)  # says so where it is a link
            raise
        try:
            os.mkdir(name.encode(), dir_fd=parent)
            os.fsync(parent)
        except FileExistsError:
            pass  # another stream was faster; what it made is opened with the same care
        return os.open(name.encode(), _FOLDER | os.O_NOFOLLOW, dir_fd=parent)


def size_of(folder: int, name: str) -> "int | None":
    """Size of a regular file, None where nothing is; anything else is refused."""
    try:
        found = os.stat(name.encode(), dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return None
    if stat.S_ISLNK(found.st_mode):
        raise Refusal("link", name)
    if not stat.S_ISREG(found.st_mode):
        raise Refusal("kind", name)
    return found.st_size


def open_file(folder: int, name: str, flags: int) -> int:
    """Open a regular file, which is made where the flags say so."""
    if name in ("", ".", ".."):
        raise Refusal("kind", name)
    size_of(folder, name)
    descriptor = os.open(name.encode(), flags | os.O_NOFOLLOW | os.O_NONBLOCK, 0o666, dir_fd=folder)
    if flags & (os.O_WRONLY | os.O_RDWR) and os.fstat(descriptor).st_nlink > 1:
        # It may lie outside of the root too.
        os.close(descriptor)
        raise Refusal("names", name)
    return descriptor


def write_all(descriptor: int, data: memoryview, position: int) -> None:
    """Write all of `data` at `position`."""
    while data:
        written = os.pwrite(descriptor, data, position)
        position += written
        data = data[written:]


def digest_of(descriptor: int, beat: "Callable[[], None]") -> "dict[str, Any]":
    """Size and digest of an open file from its start; `beat` is called after every block."""
    growing = Growing(descriptor)
    while growing.step(-1):
        beat()
    return growing.told()


def checks_of(descriptor: int, step: int, beat: "Callable[[], None]") -> "list[int]":
    """CRC-32 of each `step` bytes of an open file; `beat` is called after every block."""
    checks = []  # type: list[int]
    check = position = 0
    while True:
        block = os.pread(descriptor, min(BLOCK_BYTES, step - position % step), position)
        check = zlib.crc32(block, check)
        position += len(block)
        if (not block or position % step == 0) and position > step * len(checks):
            checks.append(check)
            check = 0
        if not block:
            return checks
        beat()


class Growing:
    """The digest of an open file that is still being written, as far as it has come, in a thread of its own."""

    def __init__(self, descriptor: int) -> None:
        import hashlib  # loads OpenSSL, which most streams do without

        self.descriptor = descriptor
        self.content = hashlib.sha256()
        self.size = 0
        self.upto = 0
        self.is_over = False
        self.problem = None  # type: OSError | None
        self.changed = threading.Condition()
        self.thread = threading.Thread(target=self.run, daemon=True)

    def step(self, upto: int) -> bool:
        """Digest one block before that byte, or before the end of the file where it is negative."""
        size = BLOCK_BYTES if upto < 0 else min(BLOCK_BYTES, upto - self.size)
        block = os.pread(self.descriptor, size, self.size)
        self.content.update(block)
        self.size += len(block)
        return bool(block)

    def advance(self, upto: int) -> None:
        """Let the thread go on to that byte; -1: to the end of the file, and then end."""
        with self.changed:
            self.upto = upto
            self.changed.notify()

    @property
    def is_behind(self) -> bool:
        """Whether more has arrived than should wait for its digest."""
        return self.thread.is_alive() and self.upto - self.size > MOST_BEHIND_BYTES

    def close(self) -> None:
        """Stop where it is, and close the file."""
        self.is_over = True
        self.advance(-1)
        self.thread.join()
        os.close(self.descriptor)

    def run(self) -> None:
        """Digest what may be digested; the thread's work."""
        try:
            while not self.is_over:
                with self.changed:
                    self.changed.wait_for(lambda: self.upto < 0 or self.upto > self.size)
                    upto = self.upto
                if not self.step(upto):
                    return
        except OSError as error:
            self.problem = error

    def told(self) -> "dict[str, Any]":
        """Describe what was digested."""
        return {"bytes": self.size, "sha256": self.content.hexdigest()}
