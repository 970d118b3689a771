"""A folder of an SSH account as a `transfer.store.ByteStore`."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from pathlib import PurePosixPath

from tasks.errors import PermanentFault
from transfer import sftp_session
from transfer.model import SshAccount
from transfer.packets import BurstChannel
from transfer.piece_store import PieceStore
from transfer.ranges import Range
from transfer.remote_digest import RemoteDigests
from transfer.sftp_follower import SftpFollower
from transfer.sftp_session import Reading, SftpSession, Writing
from transfer.ssh import SshConnection
from transfer.stall import StallWatch
from transfer.store import FileState, Follower, ended_early


class SftpStore(PieceStore):
    """Files below `root` of an account, over one connection of its own.

    SFTP cannot hold a folder open, so links are looked for right before each use; who may change the tree
    between the look and the use has the account's rights already.

    Raises
    ------
    InputError
        See `SshConnection`.
    """

    def __init__(self, account: SshAccount, root: str, *, stall_s: float) -> None:
        self._root = root.rstrip("/") or "/"
        self._where = f"{account.user}@{account.host}:{root}"
        self._connection = SshConnection(account, timeout_s=stall_s)
        self._watch = StallWatch(self._connection.socket, stall_s)
        try:
            transport = self._connection.transport
            self._open: dict[str, Writing | Reading] = {}
            self._looks: deque[list[int]] = deque()
            self._marks: deque[int] = deque()
            self._round_trip_s: float | None = None
            self.session = SftpSession(BurstChannel(transport.open_session(timeout=stall_s)), self._watch)
            self.digests = RemoteDigests(transport, self._watch, stall_s=stall_s, ping=self.session.ping)
        except BaseException:  # an interruption too must not leave it open
            self.close()
            raise

    def stat(self, path: str, *, digest: bool = False) -> FileState | None:
        """See `ByteStore.stat`. The digest is computed at the far side, or here where it runs no commands."""
        size_bytes = self.checked(path)
        if size_bytes is None or not digest:
            return None if size_bytes is None else FileState(size_bytes)
        computed = self.digests.digest(self.full(path))
        if computed:
            return FileState(size_bytes, computed, f"{self.digests.program} at the far side")
        content = hashlib.sha256()
        for block in self.read(path, 0, size_bytes):
            content.update(block)
        return FileState(size_bytes, f"sha256:{content.hexdigest()}", "read back over SFTP")

    def read(self, path: str, offset_bytes: int, size_bytes: int) -> Generator[bytes, None, None]:
        """See `ByteStore.read`."""
        self.checked(path)
        handle = self.session.open(self.full(path), sftp_session.READ)
        received = 0
        try:
            for block in self.session.read(handle, offset_bytes, size_bytes):
                received += len(block)
                yield block
        finally:
            self.session.abandon(handle)
        if received < size_bytes:
            raise ended_early(self._named(path), offset_bytes + received)

    def write(self, path: str, offset_bytes: int, blocks: Iterable[bytes | memoryview]) -> None:
        """See `ByteStore.write`."""
        self.checked(path, create=True)
        with self._explained(path):
            handle = self.session.open(self.full(path), sftp_session.WRITE | sftp_session.CREATE)
            try:
                self.session.write(handle, offset_bytes, blocks)
            except BaseException:  # an interruption too must not leave it open
                self.session.abandon(handle)
                raise
            self.session.close(handle)

    def ask_piece(self, path: str, part: Range) -> None:
        """See `PieceStore.ask_piece`. The file is opened once.

        Where the file's folder has become a link meanwhile, or the file something else, that is found out too.
        """
        reading = self._reading(path)
        self._looks.append(self.look(path))
        reading.ask(part)
        self.session.wire.flush()

    def piece(self, path: str, part: Range) -> Generator[bytes, None, None]:
        """See `PieceStore.piece`."""
        start, size_bytes = part
        received = 0
        self.judged(path, self._looks.popleft())
        for block in self._reading(path).blocks(size_bytes):
            received += len(block)
            yield block
        if received < size_bytes:
            raise ended_early(self._named(path), start + received)

    def send_piece(self, path: str, part: Range, blocks: Iterable[bytes | memoryview]) -> None:
        """See `PieceStore.send_piece`. The file is opened once, and made where it is missing."""
        with self._explained(path):
            writing = self._open.get(path)
            if not isinstance(writing, Writing):
                self.checked(path, create=True)
                handle = self.session.open(self.full(path), sftp_session.WRITE | sftp_session.CREATE)
                self._open[path] = writing = Writing(self.session, handle)
            self._marks.append(writing.send(part[0], blocks))
            self.session.wire.flush()

    def acknowledge_piece(self, path: str) -> None:
        """See `PieceStore.acknowledge_piece`."""
        writing = self._open.get(path)
        if isinstance(writing, Writing):
            with self._explained(path):
                writing.wait_for(self._marks.popleft())

    def end_pieces(self, path: str) -> None:
        """See `PieceStore.end_pieces`. The file is closed."""
        opened = self._open.pop(path, None)
        if opened:
            opened.abandon()
            self._looks.clear()
            if isinstance(opened, Reading):
                self.session.abandon(opened.handle)
            else:
                with self._explained(path):
                    self.session.close(opened.handle)

    def follow(self, path: str) -> Follower | None:
        """See `ByteStore.follow`."""
        if self.checked(path) is None or self.digests.program != "python3":
            return None
        return SftpFollower(self.digests, self.full(path))

    def publish(self, partial: str, final: str) -> None:
        """See `ByteStore.publish`. Whether the folder's entry is flushed too is up to the server."""
        self.checked(partial)
        with self._explained(final):
            handle = self.session.open(self.full(partial), sftp_session.WRITE)
            self.session.flush(handle)
            self.session.close(handle)
            self.session.rename(self.full(partial), self.full(final))

    def remove(self, path: str) -> None:
        """See `ByteStore.remove`."""
        if self.checked(path) is not None:
            with self._explained(path):
                self.session.remove(self.full(path))

    def remove_folder(self, path: str) -> None:
        """See `ByteStore.remove_folder`."""
        self.session.remove_folder(self.full(path))

    @property
    def round_trip_s(self) -> float:
        """Seconds that a small question takes."""
        if self._round_trip_s is None:
            start_s = time.monotonic()
            self.session.ping()
            self._round_trip_s = time.monotonic() - start_s
        return self._round_trip_s

    def free_bytes(self) -> int | None:
        """See `ByteStore.free_bytes`; of the nearest folder that exists."""
        root = PurePosixPath(self._root)
        for place in (root, *root.parents):
            if space := self.session.free_bytes(str(place).encode()):
                return space[0]
        return None

    def close(self) -> None:
        """See `ByteStore.close`."""
        self._connection.close()
        self._watch.close()

    def checked(self, path: str, *, create: bool = False) -> int | None:
        """Return the size of the file, or None; refuse links on the way, and what is no regular file."""
        return self.judged(path, self.look(path), create=create)

    def look(self, path: str) -> list[int]:
        """Ask what lies at each part of the way; give the requests."""
        return self.session.ask_lstat([self.full(way) for way in _ways(path)])

    def judged(self, path: str, requests: list[int], *, create: bool = False) -> int | None:
        """Take the answers to `look`; see `checked`."""
        found = [self.session.wire.answer(request).attributes() for request in requests]
        ways = _ways(path)
        for way, attributes in zip(ways[:-1], found[:-1], strict=True):
            if attributes is None and create:
                self._make_folder(way)
            elif attributes is None:
                return None
            else:
                self._require(stat.S_ISDIR, attributes[0], way, "folder")
        if found[-1] is None:
            if create and len(ways) == 1:
                self._make_root()
            return None
        self._require(stat.S_ISREG, found[-1][0], path, "regular file")
        return found[-1][1]

    def _reading(self, path: str) -> Reading:
        reading = self._open.get(path)
        if not isinstance(reading, Reading):
            self.checked(path)
            handle = self.session.open(self.full(path), sftp_session.READ)
            self._open[path] = reading = Reading(self.session, handle)
        return reading

    def _require(self, is_kind: Callable[[int], bool], mode: int, path: str, words: str) -> None:
        if stat.S_ISLNK(mode):
            raise PermanentFault(
                "leads through a symbolic link, which could point out of the root",
                subject=self._named(path),
                remedy="replace the link by the folder or file itself",
            )
        if not is_kind(mode):
            raise PermanentFault(
                f"is no {words}", subject=self._named(path), remedy="move away what stands under that name"
            )

    def _make_root(self) -> None:
        if self.session.stat(self._root.encode()) is None:
            with self._explained("."):
                self.session.make_folder(self._root.encode())

    def _make_folder(self, path: str) -> None:
        if "/" not in path:
            self._make_root()
        try:
            with self._explained(path):
                self.session.make_folder(self.full(path))
        except OSError:
            # The protocol has one answer for "exists already" and for all other failures: look what is there.
            (attributes,) = self.session.lstat([self.full(path)])
            if attributes is None:
                raise
            self._require(stat.S_ISDIR, attributes[0], path, "folder")

    @contextmanager
    def _explained(self, path: str) -> Iterator[None]:
        """Find out what the protocol's bare "Failure" means by asking for the state of the file system."""
        try:
            yield
        except OSError as error:
            if error.errno != errno.EIO:
                raise
            space = self.session.free_bytes(self._root.encode())
            if space and space[1]:
                raise OSError(errno.EROFS, os.strerror(errno.EROFS), self._named(path)) from error
            if space and space[0] < 2 * sftp_session.BLOCK_BYTES:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), self._named(path)) from error
            raise

    def full(self, path: str) -> bytes:
        """Give a path as the server sees it."""
        return f"{self._root.rstrip('/')}/{path}".encode()

    def _named(self, path: str) -> str:
        return f"{self._where}/{path}"


def _ways(path: str) -> list[str]:
    parts = path.split("/")
    return ["/".join(parts[: count + 1]) for count in range(len(parts))]
