"""What a byte store needs of SFTP, with many requests on the way and every answer looked at.

paramiko's own client does not look at the answers to the last hundred pipelined writes before it closes a
file, so that a full disk goes unnoticed, and it has no call for flushing a file to the disk.
"""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import suppress

import paramiko

from transfer import sftp_wire
from transfer.ranges import Range
from transfer.sftp_wire import SftpWire, Wire, packed
from transfer.stall import StallWatch

BLOCK_BYTES = 32_640
"""Payload of one request that every server takes: with its head it fills one SSH packet."""
_LARGEST_BLOCK_BYTES = 255 << 10
_IN_FLIGHT_BYTES = 4 << 20  # more than the 2 MiB that OpenSSH's channel window lets through

READ, WRITE, CREATE, NEW = 0x1, 0x2, 0x8, 0x28
_FSYNC, _POSIX_RENAME, _STATVFS = b"fsync@openssh.com", b"posix-rename@openssh.com", b"statvfs@openssh.com"
_LIMITS = b"limits@openssh.com"


class SftpSession:
    """The requests that a byte store needs. Paths are bytes as the server sees them.

    A refused request raises `OSError` (see `transfer.sftp_wire.Answer`).
    """

    def __init__(self, channel: Wire, watch: StallWatch) -> None:
        self.wire = SftpWire(channel, watch)
        self._limits: int | None = None
        self._block_bytes: int | None = None
        if _LIMITS in self.wire.extensions:  # asked for now, and looked at when the first file is read or written
            self._limits = self.wire.ask(sftp_wire.EXTENDED, packed(_LIMITS))
            self.wire.flush()

    @property
    def block_bytes(self) -> int:
        """Payload of one request to read or to write."""
        if self._block_bytes is None:
            self._block_bytes = BLOCK_BYTES
            if self._limits is not None:
                answer = self.wire.answer(self._limits)
                if answer.kind == sftp_wire.EXTENDED_REPLY:
                    _, most_read, most_written, _ = struct.unpack_from(">4Q", answer.body)
                    self._block_bytes = max(BLOCK_BYTES, min(most_read, most_written, _LARGEST_BLOCK_BYTES))
        return self._block_bytes

    def open(self, path: bytes, flags: int) -> bytes:
        """Open a file; return its handle."""
        return self.wire.answer(self.ask_open(path, flags)).handle()

    def ask_open(self, path: bytes, flags: int) -> int:
        """Ask for a file to be opened; give the number of the request."""
        return self.wire.ask(sftp_wire.OPEN, packed(path), struct.pack(">II", flags, 0))

    def close(self, handle: bytes) -> None:
        """Close a handle; errors that the server kept back come out here."""
        self.wire.answer(self.ask_close(handle)).done()

    def ask_close(self, handle: bytes) -> int:
        """Ask for a handle to be closed; give the number of the request."""
        return self.wire.ask(sftp_wire.CLOSE, packed(handle))

    def abandon(self, handle: bytes) -> None:
        """Close a handle without waiting for the answer; a broken connection has no handles any more."""
        with suppress(OSError, EOFError, paramiko.SSHException):
            self.wire.abandon([self.ask_close(handle)])
            self.wire.flush()

    def write(self, handle: bytes, offset_bytes: int, blocks: Iterable[bytes | memoryview]) -> None:
        """Write blocks one after the other; return when all of them are acknowledged."""
        writing = Writing(self, handle)
        try:
            writing.wait_for(writing.send(offset_bytes, blocks))
        finally:
            writing.abandon()

    def read(self, handle: bytes, offset_bytes: int, size_bytes: int) -> Iterator[bytes]:
        """Yield the bytes in order; ends early at the end of the file."""
        reading = Reading(self, handle)
        reading.ask((offset_bytes, size_bytes))
        try:
            yield from reading.blocks(size_bytes)
        finally:
            reading.abandon()

    def lstat(self, paths: list[bytes]) -> list[tuple[int, int] | None]:
        """Mode and size of each path without following links, None where nothing is; one round trip for all."""
        return [self.wire.answer(request).attributes() for request in self.ask_lstat(paths)]

    def ask_lstat(self, paths: list[bytes]) -> list[int]:
        """Ask for mode and size of each path; give the numbers of the requests."""
        return [self.wire.ask(sftp_wire.LSTAT, packed(path)) for path in paths]

    def stat(self, path: bytes) -> tuple[int, int] | None:
        """Mode and size of what `path` leads to, or None."""
        return self.wire.answer(self.wire.ask(sftp_wire.STAT, packed(path))).attributes()

    def make_folder(self, path: bytes) -> None:
        """Make one folder."""
        self.wire.answer(self.wire.ask(sftp_wire.MKDIR, packed(path), struct.pack(">I", 0))).done()

    def remove(self, path: bytes) -> None:
        """Remove one file."""
        self.wire.answer(self.wire.ask(sftp_wire.REMOVE, packed(path))).done()

    def remove_folder(self, path: bytes) -> bool:
        """Remove one folder; False where the server refuses, which it does for one that is not empty."""
        try:
            self.wire.answer(self.wire.ask(sftp_wire.RMDIR, packed(path))).done()
        except OSError:
            return False
        return True

    def rename(self, old: bytes, new: bytes) -> None:
        """Rename, replacing `new` at once where the server can; a plain SFTP rename refuses when `new` exists."""
        self.wire.answer(self.ask_rename(old, new)).done()

    def ask_rename(self, old: bytes, new: bytes) -> int:
        """Ask for a file to be renamed; give the number of the request."""
        if _POSIX_RENAME in self.wire.extensions:
            return self.wire.ask(sftp_wire.EXTENDED, packed(_POSIX_RENAME), packed(old), packed(new))
        return self.wire.ask(sftp_wire.RENAME, packed(old), packed(new))

    def flush(self, handle: bytes) -> None:
        """Flush an open file to the server's disk, where the server offers it."""
        for request in self.ask_flush(handle):
            self.wire.answer(request).done()

    def ask_flush(self, handle: bytes) -> list[int]:
        """Ask for a file to be flushed; give the number of the request, where the server offers it."""
        if _FSYNC not in self.wire.extensions:
            return []
        return [self.wire.ask(sftp_wire.EXTENDED, packed(_FSYNC), packed(handle))]

    def free_bytes(self, path: bytes) -> tuple[int, bool] | None:
        """Free bytes of the file system at `path` and whether it is read-only; None when the server cannot say."""
        if _STATVFS not in self.wire.extensions:
            return None
        answer = self.wire.answer(self.wire.ask(sftp_wire.EXTENDED, packed(_STATVFS), packed(path)))
        if answer.kind != sftp_wire.EXTENDED_REPLY:
            return None
        fields = struct.unpack_from(">11Q", answer.body)
        return fields[1] * fields[4], bool(fields[9] & 1)

    def ping(self) -> None:
        """Ask something small, to see that the connection lives."""
        self.wire.answer(self.wire.ask(sftp_wire.REALPATH, packed(b".")))


class Writing:
    """A file that is open for writing, with blocks ahead of their acknowledgements."""

    def __init__(self, session: SftpSession, handle: bytes) -> None:
        self.handle = handle
        self._wire, self._block_bytes = session.wire, session.block_bytes
        self._pending: deque[int] = deque()
        self._sent = self._acknowledged = 0

    def send(self, offset_bytes: int, blocks: Iterable[bytes | memoryview]) -> int:
        """Send blocks one after the other; give a mark to `wait_for`."""
        for block in blocks:
            view = memoryview(block)
            for start in range(0, len(view), self._block_bytes):
                if len(self._pending) * self._block_bytes >= _IN_FLIGHT_BYTES:
                    self._acknowledge()
                cut = view[start : start + self._block_bytes]
                head = packed(self.handle) + struct.pack(">QI", offset_bytes, len(cut))
                self._pending.append(self._wire.ask(sftp_wire.WRITE, head, cut))
                self._sent += 1
                offset_bytes += len(cut)
        return self._sent

    def wait_for(self, mark: int) -> None:
        """Wait until all is acknowledged that was sent up to a mark."""
        while self._acknowledged < mark:
            self._acknowledge()

    def abandon(self) -> None:
        """Wait for acknowledgements no longer."""
        self._wire.abandon(self._pending)
        self._pending.clear()

    def _acknowledge(self) -> None:
        self._acknowledged += 1
        self._wire.answer(self._pending.popleft()).done()


class Reading:
    """A file that is open for reading, with requests ahead of what is taken."""

    def __init__(self, session: SftpSession, handle: bytes) -> None:
        self.handle = handle
        self._wire, self._block_bytes = session.wire, session.block_bytes
        self._wanted: deque[Range] = deque()
        self._pending: deque[tuple[int, Range]] = deque()

    def ask(self, part: Range) -> None:
        """Have a range read ahead."""
        self._wanted.append(part)
        self._ask_ahead()

    def blocks(self, size_bytes: int) -> Iterator[bytes]:
        """Yield the next bytes of what was asked, in order; ends early at the end of the file."""
        while size_bytes > 0:
            self._ask_ahead()
            request, (start, length) = self._pending.popleft()
            block = self._wire.answer(request).data()
            if len(block) > length:
                raise paramiko.SSHException(f"{len(block)} bytes for {length} that were asked for")
            if not block:
                return
            size_bytes -= len(block)
            if len(block) < length:
                # A short answer is allowed anywhere; what is missing must come before the next one.
                rest = start + len(block), length - len(block)
                self._pending.appendleft((self._ask(rest), rest))
            yield bytes(block)

    @property
    def last_request(self) -> int | None:
        """Number of the request that is answered last."""
        return self._pending[-1][0] if self._pending else None

    def abandon(self) -> None:
        """Wait for answers no longer."""
        self._wanted.clear()
        self._wire.abandon(request for request, _ in self._pending)
        self._pending.clear()

    def _ask_ahead(self) -> None:
        while self._wanted and len(self._pending) * self._block_bytes < _IN_FLIGHT_BYTES:
            start, length = self._wanted.popleft()
            first = min(self._block_bytes, length)
            if first:
                self._pending.append((self._ask((start, first)), (start, first)))
            if length > first:
                self._wanted.appendleft((start + first, length - first))

    def _ask(self, part: Range) -> int:
        return self._wire.ask(sftp_wire.READ, packed(self.handle), struct.pack(">QI", *part))
