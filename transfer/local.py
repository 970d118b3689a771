"""A folder of this machine as a `transfer.store.ByteStore`."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import stat
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tasks.errors import PermanentFault
from transfer.local_follower import LocalFollower
from transfer.store import FileState, Follower, ended_early

_BLOCK_BYTES = 1 << 20
_NO_KERNEL_COPY = {errno.EXDEV, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL}
"""What `os.copy_file_range` says between file systems that cannot copy for each other."""


class LocalStore:
    """Files below `root`, which is made on the first write when it is missing.

    Every folder on the way is opened relative to the one before and never through a symbolic link, so that
    nothing outside of the root can be reached, also when the tree is changed meanwhile. The root itself may
    be a link: it is the user's word.
    """

    def __init__(self, root: Path) -> None:
        self._root = root

    def stat(self, path: str, *, digest: bool = False) -> FileState | None:
        """See `ByteStore.stat`."""
        try:
            with self._folder_of(path) as (folder, name):
                if not self._is_file(folder, name, path):
                    return None
                descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW, dir_fd=folder)
        except FileNotFoundError:
            return None
        with os.fdopen(descriptor, "rb", buffering=0) as file:
            size_bytes = os.fstat(descriptor).st_size
            if not digest:
                return FileState(size_bytes)
            hexadecimal = hashlib.file_digest(file, "sha256").hexdigest()
        return FileState(size_bytes, f"sha256:{hexadecimal}", "read on this machine")

    @contextmanager
    def opened(self, path: str) -> Iterator[int]:
        """Open a file for reading; give its descriptor."""
        with self._folder_of(path) as (folder, name):
            self._is_file(folder, name, path)
            descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW, dir_fd=folder)
        try:
            yield descriptor
        finally:
            os.close(descriptor)

    def read(self, path: str, offset_bytes: int, size_bytes: int) -> Generator[bytes, None, None]:
        """See `ByteStore.read`."""
        with self.opened(path) as descriptor:
            end = offset_bytes + size_bytes
            while offset_bytes < end:
                block = os.pread(descriptor, min(_BLOCK_BYTES, end - offset_bytes), offset_bytes)
                if not block:
                    raise ended_early(self._root / path, offset_bytes)
                yield block
                offset_bytes += len(block)

    def write(self, path: str, offset_bytes: int, blocks: Iterable[bytes | memoryview]) -> None:
        """See `ByteStore.write`."""
        with self._folder_of(path, create=True) as (folder, name):
            self._is_file(folder, name, path)
            descriptor = self._open_to_write(folder, name, path)
        try:
            for block in blocks:
                left = memoryview(block)
                while left:
                    written = os.pwrite(descriptor, left, offset_bytes)
                    offset_bytes += written
                    left = left[written:]
        finally:
            os.close(descriptor)

    def follow(self, path: str) -> Follower | None:
        """See `ByteStore.follow`."""
        if self.stat(path) is None:
            return None
        with self._folder_of(path) as (folder, name):
            return LocalFollower(os.open(name, os.O_RDONLY | os.O_NOFOLLOW, dir_fd=folder))

    def copy_from(
        self, source: LocalStore, source_path: str, path: str, offset_bytes: int, size_bytes: int
    ) -> Generator[int, None, None]:
        """Copy a part of a file of another store to the same place here; yield the size of each step before it.

        The kernel copies, and shares the blocks where the file system can; its bytes never come through here.
        """
        with source._folder_of(source_path) as (folder, name):
            source._is_file(folder, name, source_path)
            reading = os.open(name, os.O_RDONLY | os.O_NOFOLLOW, dir_fd=folder)
        try:
            with self._folder_of(path, create=True) as (folder, name):
                self._is_file(folder, name, path)
                writing = self._open_to_write(folder, name, path)
            try:
                end = offset_bytes + size_bytes
                while offset_bytes < end:
                    step_bytes = min(_BLOCK_BYTES, end - offset_bytes)
                    yield step_bytes
                    if not _copy_exactly(reading, writing, offset_bytes, step_bytes):
                        raise ended_early(source._root / source_path, os.fstat(reading).st_size)
                    offset_bytes += step_bytes
            finally:
                os.close(writing)
        finally:
            os.close(reading)

    def publish(self, partial: str, final: str) -> None:
        """See `ByteStore.publish`."""
        with self._folder_of(partial) as (folder, partial_name):
            descriptor = os.open(partial_name, os.O_RDONLY | os.O_NOFOLLOW, dir_fd=folder)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            os.rename(partial_name, Path(final).name, src_dir_fd=folder, dst_dir_fd=folder)
            os.fsync(folder)

    def remove(self, path: str) -> None:
        """See `ByteStore.remove`."""
        try:
            with self._folder_of(path) as (folder, name):
                os.unlink(name, dir_fd=folder)
        except FileNotFoundError:
            return

    def remove_folder(self, path: str) -> None:
        """See `ByteStore.remove_folder`."""
        try:
            with self._folder_of(path) as (folder, name):
                os.rmdir(name, dir_fd=folder)
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ENOTEMPTY, errno.EEXIST):
                raise

    def free_bytes(self) -> int | None:
        """See `ByteStore.free_bytes`; of the nearest folder that exists."""
        place = next(folder for folder in (self._root, *self._root.absolute().parents) if folder.is_dir())
        return shutil.disk_usage(place).free

    def close(self) -> None:
        """See `ByteStore.close`; nothing is held between the calls."""

    @contextmanager
    def _folder_of(self, path: str, *, create: bool = False) -> Iterator[tuple[int, str]]:
        """Open the folder that `path` lies in; give its descriptor and the last part of the path."""
        *folders, name = path.split("/")
        if create:
            self._root.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self._root, os.O_RDONLY | os.O_DIRECTORY)
        try:
            for folder in folders:
                below = self._open_folder(descriptor, folder, path, create=create)
                os.close(descriptor)
                descriptor = below
            yield descriptor, name
        finally:
            os.close(descriptor)

    def _open_folder(self, parent: int, name: str, path: str, *, create: bool) -> int:
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
        try:
            return os.open(name, flags, dir_fd=parent)
        except FileNotFoundError:
            if not create:
                raise
        except OSError as error:
            if error.errno in (errno.ELOOP, errno.ENOTDIR):
                self._refuse_link(parent, name, path)
            raise
        try:
            os.mkdir(name, dir_fd=parent)
            os.fsync(parent)
        except FileExistsError:
            pass  # another stream was faster; what it made is opened with the same care
        return os.open(name, flags, dir_fd=parent)

    def _open_to_write(self, folder: int, name: str, path: str) -> int:
        """Open a file that is made where it is missing; one that has a second name may lie outside of the root too."""
        descriptor = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW, 0o666, dir_fd=folder)
        if os.fstat(descriptor).st_nlink > 1:
            os.close(descriptor)
            raise PermanentFault(
                "has a second name (a hard link), under which it would be changed too",
                subject=self._root / path,
                remedy="remove that file, and run the same command again",
            )
        return descriptor

    def _is_file(self, folder: int, name: str, path: str) -> bool:
        """Whether a regular file is there; anything else that is there is refused."""
        try:
            mode = os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode
        except FileNotFoundError:
            return False
        self._refuse_link(folder, name, path)
        if not stat.S_ISREG(mode):
            raise PermanentFault(
                "is no regular file", subject=self._root / path, remedy="move away what stands under that name"
            )
        return True

    def _refuse_link(self, folder: int, name: str, path: str) -> None:
        if stat.S_ISLNK(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode):
            raise PermanentFault(
                f"leads through the symbolic link {name!r}, which could point out of the root",
                subject=self._root / path,
                remedy="replace the link by the folder or file itself",
            )


def _copy_exactly(reading: int, writing: int, offset_bytes: int, size_bytes: int) -> bool:
    """Copy between two open files at the same offset; return whether the source had that many bytes."""
    end = offset_bytes + size_bytes
    while offset_bytes < end:
        try:
            copied = os.copy_file_range(reading, writing, end - offset_bytes, offset_bytes, offset_bytes)
        except OSError as error:
            if error.errno not in _NO_KERNEL_COPY:
                raise
            copied = os.pwrite(writing, os.pread(reading, end - offset_bytes, offset_bytes), offset_bytes)
        if copied == 0:
            return False
        offset_bytes += copied
    return True
