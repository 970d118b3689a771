"""Frames over a connection. Sent to the far side as text: standard library of Python 3.6 only."""

import contextlib
import errno
import fcntl
import json
import os
import struct
import time

TYPE_CHECKING = False  # typing takes longer to import than the rest together
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, BinaryIO

MAX_FRAME_BYTES = 1 << 20
_BLOCK_BYTES = 1 << 18
_PIPE_BYTES = 1 << 20
_F_SETPIPE_SZ = 1031
_FEW_BYTES = 1 << 17
_MOMENT_S = 0.001  # in which a pipe of _PIPE_BYTES neither runs full nor empty below 1 GB/s
_NO_KERNEL_COPY = (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EXDEV)
_LENGTH = struct.Struct(">I")


class Line:
    """Frames over a connection.

    Parameters
    ----------
    source
        Its ``readinto1`` fills a part of a buffer, and nothing once the connection has ended.
    push
        Takes some of the bytes, and says how many.
    push_file
        Takes some bytes of an open file (descriptor, position, size), and says how many; without them
        coming through here. None: they do.
    patient
        Whether what is read comes through a large pipe, in many small portions: it is cheaper to wait a
        moment for more of them.
    """

    def __init__(
        self,
        source: "BinaryIO",
        push: "Callable[[memoryview], int]",
        push_file: "Callable[[int, int, int], int] | None" = None,
        patient: bool = False,
    ) -> None:
        self.source = source
        self.push = push
        self.push_file = push_file
        self.patient = patient

    def fill(self, view: memoryview) -> None:
        """Fill all of `view`."""
        while view:
            count = self.source.readinto1(view)  # type: ignore[attr-defined]  # typeshed has it on the buffered classes only
            if not count:
                raise EOFError
            view = view[count:]
            if self.patient and count < _FEW_BYTES < len(view):
                time.sleep(_MOMENT_S)

    def write(self, view: memoryview) -> None:
        """Send all of `view`."""
        while view:
            view = view[self.push(view) :]

    def pass_file(self, descriptor: int, position: int, size: int) -> int:
        """Send some bytes of an open file; return how many, 0 at its end."""
        if self.push_file is not None:
            try:
                return self.push_file(descriptor, position, size)
            except OSError as error:
                if error.errno not in _NO_KERNEL_COPY:
                    raise
                self.push_file = None  # a file system, or a kind of connection, that has no such way
        block = os.pread(descriptor, min(_BLOCK_BYTES, size), position)
        self.write(memoryview(block))
        return len(block)

    def send(self, message: "dict[str, Any]") -> None:
        """Send the object of a frame."""
        body = json.dumps(message, ensure_ascii=False).encode()
        self.write(memoryview(_LENGTH.pack(len(body)) + body))

    def receive(self) -> "dict[str, Any]":
        """Receive the object of a frame; ValueError where it is none."""
        head = bytearray(_LENGTH.size)
        self.fill(memoryview(head))
        length = _LENGTH.unpack(head)[0]
        if length > MAX_FRAME_BYTES:
            raise ValueError("a frame that is too long")
        body = bytearray(length)
        self.fill(memoryview(body))
        message = json.loads(body.decode())
        if not isinstance(message, dict):
            raise ValueError("a frame that is no object")  # noqa: TRY004 - one kind of error for all bad frames
        return message


def widen(descriptor: int) -> bool:
    """Make a pipe hold more; return whether it does."""
    with contextlib.suppress(OSError):  # no pipe, another system, or the account's share of such memory is used up
        return fcntl.fcntl(descriptor, _F_SETPIPE_SZ, _PIPE_BYTES) >= _PIPE_BYTES
    return False
