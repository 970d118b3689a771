"""SFTP version 3 over one channel: requests that are sent together, and answers that come in any order.

Format: draft-ietf-secsh-filexfer-02 and OpenSSH's PROTOCOL file, section 4.
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

import paramiko

from transfer.packets import BURST_BYTES
from transfer.stall import StallWatch

INIT, VERSION = 1, 2
OPEN, CLOSE, READ, WRITE, LSTAT = 3, 4, 5, 6, 7
REMOVE, MKDIR, RMDIR, REALPATH, STAT, RENAME, EXTENDED = 13, 14, 15, 16, 17, 18, 200
STATUS, HANDLE, DATA, ATTRS, EXTENDED_REPLY = 101, 102, 103, 105, 201
_OK, _EOF = 0, 1
_ERRNO = {2: errno.ENOENT, 3: errno.EACCES, 4: errno.EIO, 5: errno.EINVAL, 6: errno.ECONNRESET, 7: errno.ECONNRESET,
          8: errno.ENOSYS}  # fmt: skip
_MAX_PACKET_BYTES = 1 << 20


class Wire(Protocol):
    """What is needed of a channel."""

    def invoke_subsystem(self, name: str) -> None:
        """Start what the channel leads to."""

    def sendall(self, data: bytes) -> None:
        """Send all of it."""

    def recv(self, most_bytes: int) -> bytes:
        """Wait for some bytes; none at the end."""


@dataclass(frozen=True)
class Answer:
    """What the server said to one request.

    Its methods give what it holds where it is the answer that was hoped for. Else they raise `OSError` with the
    nearest error number (``EIO`` for the protocol's bare "Failure").
    """

    kind: int
    body: memoryview

    def done(self) -> None:
        """Nothing, where the request was fulfilled."""
        if self.kind != STATUS or _code(self.body) != _OK:
            self._expect(None)

    def handle(self) -> bytes:
        """Handle of a file that was opened."""
        return next(strings(self._expect(HANDLE)))

    def attributes(self) -> tuple[int, int] | None:
        """Mode and size, or None where nothing is."""
        if self.kind == STATUS and _ERRNO.get(_code(self.body)) == errno.ENOENT:
            return None
        return _mode_and_size(self._expect(ATTRS))

    def data(self) -> memoryview:
        """Bytes that were read; none at the end of the file."""
        if self.kind == STATUS and _code(self.body) == _EOF:
            return memoryview(b"")
        return self._expect(DATA)[4:]

    def _expect(self, kind: int | None) -> memoryview:
        if self.kind == kind:
            return self.body
        if self.kind == STATUS:
            words = next(strings(self.body[4:]), b"").decode(errors="replace")
            raise OSError(_ERRNO.get(_code(self.body), errno.EIO), f"the server answered {words!r}")
        raise paramiko.SSHException(f"unexpected SFTP answer of type {self.kind}")


class SftpWire:
    """Requests and answers.

    Requests wait until there are enough of them to send, or until somebody waits for an answer. A broken or stalled
    connection raises `ConnectionError` or `TimeoutError`.

    Attributes
    ----------
    extensions
        Names of what the server offers beside the protocol.
    """

    def __init__(self, channel: Wire, watch: StallWatch) -> None:
        self._channel = channel
        self._watch = watch
        self._input = bytearray()
        self._outbox: list[bytes | memoryview] = []
        self._outbox_bytes = 0
        self._answers: dict[int, Answer] = {}
        self._abandoned: set[int] = set()
        self._last_request = 0
        with watch.waiting():
            channel.invoke_subsystem("sftp")
        self._put(struct.pack(">IBI", 5, INIT, 3))
        kind, body = self._packet()
        if kind != VERSION:
            raise paramiko.SSHException("the server does not speak SFTP")
        names = list(strings(body[4:]))
        self.extensions = frozenset(names[::2])

    def ask(self, kind: int, *parts: bytes | memoryview) -> int:
        """Send a request now or soon; give its number. What `parts` refer to may change after `flush` only."""
        self._last_request = (self._last_request + 1) & 0xFFFFFFFF
        size = 5 + sum(len(part) for part in parts)
        self._put(struct.pack(">IBI", size, kind, self._last_request), *parts)
        return self._last_request

    def flush(self) -> None:
        """Send all requests that wait."""
        if self._outbox:
            data = b"".join(self._outbox)
            self._outbox.clear()
            self._outbox_bytes = 0
            with self._watch.waiting():
                self._channel.sendall(data)

    def answer(self, request: int) -> Answer:
        """Wait for the answer to one request; answers to others are kept until they are asked for."""
        self.wait_for(request)
        return self._answers.pop(request)

    def wait_for(self, request: int) -> None:
        """Wait until a request is answered; the answer stays."""
        while request not in self._answers:
            self._receive()

    def is_answered(self, request: int) -> bool:
        """Whether the answer to a request is there already."""
        return request in self._answers

    def abandon(self, requests: Iterable[int]) -> None:
        """Wait for the answers to these requests no longer."""
        for request in requests:
            if self._answers.pop(request, None) is None:
                self._abandoned.add(request)

    def _receive(self) -> None:
        self.flush()
        kind, body = self._packet()
        (number,) = struct.unpack_from(">I", body)
        if number in self._abandoned:
            self._abandoned.discard(number)
        else:
            self._answers[number] = Answer(kind, body[4:])

    def _put(self, *parts: bytes | memoryview) -> None:
        self._outbox += parts
        self._outbox_bytes += sum(len(part) for part in parts)
        if self._outbox_bytes >= BURST_BYTES:
            self.flush()

    def _packet(self) -> tuple[int, memoryview]:
        self.flush()
        (size,) = struct.unpack(">I", self._take(4))
        if not 1 <= size <= _MAX_PACKET_BYTES:
            raise paramiko.SSHException(f"SFTP packet of {size} bytes")
        packet = memoryview(self._take(size))
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


def packed(text: bytes) -> bytes:
    """Give a string as it is sent."""
    return struct.pack(">I", len(text)) + text


def strings(body: memoryview) -> Iterator[bytes]:
    """Give the strings that were sent one after the other."""
    while len(body) >= 4:
        (size,) = struct.unpack_from(">I", body)
        yield bytes(body[4 : 4 + size])
        body = body[4 + size :]


def _code(body: memoryview) -> int:
    (code,) = struct.unpack_from(">I", body)
    return int(code)


def _mode_and_size(body: memoryview) -> tuple[int, int]:
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
