"""Frames over a connection. Sent to the far side as text: standard library of Python 3.6 only."""

import json
import struct

TYPE_CHECKING = False  # typing takes longer to import than the rest together
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, BinaryIO

MAX_FRAME_BYTES = 1 << 20
_LENGTH = struct.Struct(">I")


class Line:
    """Frames over a connection.

    Parameters
    ----------
    source
        Its ``readinto`` fills the whole buffer unless the connection ends.
    push
        Takes some of the bytes, and says how many.
    """

    def __init__(self, source: "BinaryIO", push: "Callable[[memoryview], int]") -> None:
        self.source = source
        self.push = push

    def fill(self, view: memoryview) -> None:
        """Fill all of `view`."""
        while view:
            count = self.source.readinto(view)  # type: ignore[attr-defined]  # typeshed has it on the buffered classes only
            if not count:
                raise EOFError
            view = view[count:]

    def write(self, view: memoryview) -> None:
        """Send all of `view`."""
        while view:
            view = view[self.push(view) :]

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
