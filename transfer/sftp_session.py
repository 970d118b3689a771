"""SFTP version 3 over one channel, with many requests on the way and every answer looked at.

paramiko's own client does not look at the answers to the last hundred pipelined writes before it closes a
file, so that a full disk goes unnoticed, and it has no call for flushing a file to the disk.
Format: draft-ietf-secsh-filexfer-02 and OpenSSH's PROTOCOL file, section 4.
"""

from __future__ import annotations

import errno
import struct
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import suppress

import paramiko

from transfer.stall import StallWatch

BLOCK_BYTES = 32_640
"""Payload of one request: with its head it fills one SSH packet of OpenSSH; larger ones are cut in two."""

_IN_FLIGHT = 64  # requests; with BLOCK_BYTES about the 2 MiB that OpenSSH's channel window lets through
_INIT, _VERSION = 1, 2
_OPEN, _CLOSE, _READ, _WRITE, _LSTAT, _FSTAT = 3, 4, 5, 6, 7, 8
_REMOVE, _MKDIR, _RMDIR, _REALPATH, _STAT, _RENAME, _EXTENDED = 13, 14, 15, 16, 17, 18, 200
_STATUS, _HANDLE, _DATA, _ATTRS, _EXTENDED_REPLY = 101, 102, 103, 105, 201
_NOTHING = 0  # no answer has this type
_OK, _EOF = 0, 1
_ERRNO = {2: errno.ENOENT, 3: errno.EACCES, 4: errno.EIO, 5: errno.EINVAL, 6: errno.ECONNRESET, 7: errno.ECONNRESET,
          8: errno.ENOSYS}  # fmt: skip
_MAX_PACKET_BYTES = 1 << 20

READ, WRITE, CREATE = 0x1, 0x2, 0x8
_FSYNC, _POSIX_RENAME, _STATVFS = b"fsync@openssh.com", b"posix-rename@openssh.com", b"statvfs@openssh.com"


class SftpSession:
    """The requests that a byte store needs. Paths are bytes as the server sees them.

    A refused request raises `OSError` with the nearest error number (``EIO`` for the protocol's bare
    "Failure"); a broken or stalled connection raises `ConnectionError` or `TimeoutError`.
    """

    def __init__(self, channel: paramiko.Channel, watch: StallWatch) -> None:
        self._channel = channel
        self._watch = watch
        self._input = bytearray()
        self._answers: dict[int, tuple[int, bytes]] = {}
        self._abandoned: set[int] = set()
        self._last_request = 0
        with watch.waiting():
            channel.invoke_subsystem("sftp")
        self._put(struct.pack(">IBI", 5, _INIT, 3))
        kind, body = self._packet()
        if kind != _VERSION:
            raise paramiko.SSHException("the server does not speak SFTP")
        names = list(_strings(body[4:]))
        self.extensions = frozenset(names[::2])

    def open(self, path: bytes, flags: int) -> bytes:
        """Open a file; return its handle."""
        return self._string(self._send(_OPEN, _packed(path) + struct.pack(">II", flags, 0)), _HANDLE)

    def close(self, handle: bytes) -> None:
        """Close a handle; errors that the server kept back come out here."""
        self._done(self._send(_CLOSE, _packed(handle)))

    def abandon(self, handle: bytes) -> None:
        """Close a handle without waiting for the answer; a broken connection has no handles any more."""
        with suppress(OSError, EOFError, paramiko.SSHException):
            self._abandoned.add(self._send(_CLOSE, _packed(handle)))

    def write(self, handle: bytes, offset_bytes: int, blocks: Iterable[bytes]) -> None:
        """Write blocks one after the other; return when all of them are acknowledged."""
        pending: deque[int] = deque()
        try:
            for block in _cut(blocks):
                if len(pending) >= _IN_FLIGHT:
                    self._done(pending.popleft())
                head = _packed(handle) + struct.pack(">QI", offset_bytes, len(block))
                pending.append(self._send(_WRITE, head, block))
                offset_bytes += len(block)
            while pending:
                self._done(pending.popleft())
        finally:
            self._abandoned.update(pending)

    def read(self, handle: bytes, offset_bytes: int, size_bytes: int) -> Iterator[bytes]:
        """Yield the bytes in order; ends early at the end of the file."""
        asked = offset_bytes
        end = offset_bytes + size_bytes
        pending: deque[tuple[int, int, int]] = deque()
        try:
            while offset_bytes < end:
                while asked < end and len(pending) < _IN_FLIGHT:
                    size = min(BLOCK_BYTES, end - asked)
                    pending.append((self._ask(handle, asked, size), asked, size))
                    asked += size
                request, start, size = pending.popleft()
                block = self._data(request)
                if not block:
                    return
                offset_bytes += len(block)
                if len(block) < size:
                    # A short answer is allowed anywhere; what is missing must come before the next one.
                    rest = start + len(block)
                    pending.appendleft((self._ask(handle, rest, size - len(block)), rest, size - len(block)))
                yield block
        finally:
            self._abandoned.update(request for request, _, _ in pending)

    def lstat(self, paths: list[bytes]) -> list[tuple[int, int] | None]:
        """Mode and size of each path without following links, None where nothing is; one round trip for all."""
        return [self._attributes(request) for request in [self._send(_LSTAT, _packed(path)) for path in paths]]

    def stat(self, path: bytes) -> tuple[int, int] | None:
        """Mode and size of what `path` leads to, or None."""
        return self._attributes(self._send(_STAT, _packed(path)))

    def make_folder(self, path: bytes) -> None:
        """Make one folder."""
        self._done(self._send(_MKDIR, _packed(path) + struct.pack(">I", 0)))

    def remove(self, path: bytes) -> None:
        """Remove one file."""
        self._done(self._send(_REMOVE, _packed(path)))

    def remove_folder(self, path: bytes) -> bool:
        """Remove one folder; False where the server refuses, which it does for one that is not empty."""
        try:
            self._done(self._send(_RMDIR, _packed(path)))
        except OSError:
            return False
        return True

    def rename(self, old: bytes, new: bytes) -> None:
        """Rename, replacing `new` at once where the server can; a plain SFTP rename refuses when `new` exists."""
        paths = _packed(old) + _packed(new)
        if _POSIX_RENAME in self.extensions:
            self._done(self._send(_EXTENDED, _packed(_POSIX_RENAME) + paths))
        else:
            self._done(self._send(_RENAME, paths))

    def flush(self, handle: bytes) -> None:
        """Flush an open file to the server's disk, where the server offers it."""
        if _FSYNC in self.extensions:
            self._done(self._send(_EXTENDED, _packed(_FSYNC) + _packed(handle)))

    def free_bytes(self, path: bytes) -> tuple[int, bool] | None:
        """Free bytes of the file system at `path` and whether it is read-only; None when the server cannot say."""
        if _STATVFS not in self.extensions:
            return None
        kind, body = self._answer(self._send(_EXTENDED, _packed(_STATVFS) + _packed(path)))
        if kind != _EXTENDED_REPLY:
            return None
        fields = struct.unpack_from(">11Q", body)
        return fields[1] * fields[4], bool(fields[9] & 1)

    def ping(self) -> None:
        """Ask something small, to see that the connection lives."""
        self._answer(self._send(_REALPATH, _packed(b".")))

    def _ask(self, handle: bytes, offset_bytes: int, size_bytes: int) -> int:
        return self._send(_READ, _packed(handle) + struct.pack(">QI", offset_bytes, size_bytes))

    def _data(self, request: int) -> bytes:
        kind, body = self._answer(request)
        if kind == _STATUS and _code(body) == _EOF:
            return b""
        return self._expect(kind, body, _DATA)[4:]

    def _string(self, request: int, expected: int) -> bytes:
        return next(_strings(self._expect(*self._answer(request), expected)))

    def _attributes(self, request: int) -> tuple[int, int] | None:
        kind, body = self._answer(request)
        if kind == _STATUS and _ERRNO.get(_code(body)) == errno.ENOENT:
            return None
        return _mode_and_size(self._expect(kind, body, _ATTRS))

    def _done(self, request: int) -> None:
        kind, body = self._answer(request)
        if kind != _STATUS or _code(body) != _OK:
            self._expect(kind, body, _NOTHING)

    def _expect(self, kind: int, body: bytes, expected: int) -> bytes:
        if kind == expected:
            return body
        if kind == _STATUS:
            words = next(_strings(body[4:]), b"").decode(errors="replace")
            raise OSError(_ERRNO.get(_code(body), errno.EIO), f"the server answered {words!r}")
        raise paramiko.SSHException(f"unexpected SFTP answer of type {kind}")

    def _send(self, kind: int, *parts: bytes | memoryview) -> int:
        self._last_request = (self._last_request + 1) & 0xFFFFFFFF
        size = 5 + sum(len(part) for part in parts)
        self._put(b"".join((struct.pack(">IBI", size, kind, self._last_request), *parts)))
        return self._last_request

    def _put(self, data: bytes) -> None:
        with self._watch.waiting():
            self._channel.sendall(data)

    def _answer(self, request: int) -> tuple[int, bytes]:
        """Wait for the answer to one request; answers to others are kept until they are asked for."""
        while request not in self._answers:
            kind, body = self._packet()
            (number,) = struct.unpack_from(">I", body)
            if number in self._abandoned:
                self._abandoned.discard(number)
            else:
                self._answers[number] = kind, body[4:]
        return self._answers.pop(request)

    def _packet(self) -> tuple[int, bytes]:
        (size,) = struct.unpack(">I", self._take(4))
        if not 1 <= size <= _MAX_PACKET_BYTES:
            raise paramiko.SSHException(f"SFTP packet of {size} bytes")
        packet = self._take(size)
        return packet[0], packet[1:]

    def _take(self, size: int) -> bytes:
        while len(self._input) < size:
            with self._watch.waiting():
                data = self._channel.recv(1 << 18)
                if not data:
                    raise ConnectionResetError(errno.ECONNRESET, "the other side closed the connection")
            self._input += data
        taken = bytes(self._input[:size])
        del self._input[:size]
        return taken


def _packed(text: bytes) -> bytes:
    return struct.pack(">I", len(text)) + text


def _strings(body: bytes) -> Iterator[bytes]:
    while len(body) >= 4:
        (size,) = struct.unpack_from(">I", body)
        yield body[4 : 4 + size]
        body = body[4 + size :]


def _code(body: bytes) -> int:
    (code,) = struct.unpack_from(">I", body)
    return int(code)


def _mode_and_size(body: bytes) -> tuple[int, int]:
    (flags,) = struct.unpack_from(">I", body)
    position, size, mode = 4, 0, 0
    if flags & 1:
        (size,) = struct.unpack_from(">Q", body, position)
        position += 8
    if flags & 2:
        position += 8
    if flags & 4:
        (mode,) = struct.unpack_from(">I", body, position)
    return mode, size


def _cut(blocks: Iterable[bytes]) -> Iterator[memoryview]:
    for block in blocks:
        view = memoryview(block)
        for start in range(0, len(view), BLOCK_BYTES):
            yield view[start : start + BLOCK_BYTES]
