"""A folder of an account that has no Python as a `transfer.store.ByteStore`: its shell, ``dd`` and ``sha256sum``."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Callable, Generator, Iterable
from pathlib import Path

from tasks.errors import PermanentFault, RetryableFault
from transfer.store import FileState, ended_early
from transfer.streams.channel import Channel, FarProgram
from transfer.streams.far_faults import fault_told
from transfer.streams.far_files import BLOCK_BYTES

_SCRIPT = Path(__file__).with_name("far_shell.sh").read_bytes()
_BY = "sha256sum at the far side"
_FRAME_BYTES = 1 << 20
_LONGEST_ANSWER_BYTES = 1 << 14
_ANSWER = re.compile(
    rb"(ok|none|kind|names|data)|(size|early) \d{1,19}|(link|!) .*|digest [0-9a-f]{64} \d{1,19}|free (\d{1,19} ?){2}"
)

SHELL = FarProgram(
    f'exec env "PATH=/usr/bin:/bin:$PATH" sh -c \'eval "$(dd bs={len(_SCRIPT)} count=1 iflag=fullblock 2>/dev/null)"\'',
    _SCRIPT,
    b"\ncamnet-dd/1\n",
    "shell with GNU coreutils",
)
"""A constant line, and a constant script behind it; file names follow over standard input, a line each."""


class DdStore:
    """Files below `root` of an account, over one session of `SHELL`.

    The shell goes into each folder step by step and looks where it is, so that no link on the way is followed, also
    when the tree is changed meanwhile. The digest is made after the file has arrived.

    Parameters
    ----------
    open_channel
        Opens a channel to `SHELL`.
    where
        ``user@host``, for messages.
    """

    def __init__(self, open_channel: Callable[[], Channel], root: str, where: str) -> None:
        self._root = root
        self._where = where
        self._channel = open_channel()
        self._line = self._channel.line
        self._block = memoryview(bytearray(BLOCK_BYTES))
        try:
            self._send(root)
        except BaseException:  # an interruption too must not leave it open
            self.close()
            raise

    def stat(self, path: str, *, digest: bool = False) -> FileState | None:
        """See `ByteStore.stat`."""
        answer = self._asked("digest" if digest else "stat", path)
        match answer:
            case ["none"]:
                return None
            case ["size", size]:
                return FileState(int(size))
            case ["digest", digits, size]:
                return FileState(int(size), f"sha256:{digits}", _BY)
        raise self._nonsense()

    def read(self, path: str, offset_bytes: int, size_bytes: int) -> Generator[bytes, None, None]:
        """See `ByteStore.read`."""
        match self._asked("read", path, str(offset_bytes), str(size_bytes)):
            case ["early", where]:
                raise ended_early(self._named(path), int(where))
            case ["none"]:
                raise self._missing(path)
            case ["data"]:
                pass
            case _:
                raise self._nonsense()
        left_bytes = size_bytes
        try:
            while left_bytes:
                block = self._block[: min(BLOCK_BYTES, left_bytes)]
                self._line.fill(block)
                left_bytes -= len(block)
                yield bytes(block)
        except GeneratorExit:  # the rest is on its way, and the next request comes after it
            while left_bytes:
                block = self._block[: min(BLOCK_BYTES, left_bytes)]
                self._line.fill(block)
                left_bytes -= len(block)
            self._done(path)
            raise
        self._done(path)

    def write(self, path: str, offset_bytes: int, blocks: Iterable[bytes | memoryview]) -> None:
        """See `ByteStore.write`."""
        self._send("write", path, str(offset_bytes))
        source = iter(blocks)
        while True:
            try:
                block = next(source, None)
            except Exception:  # of the source: the shell still waits for frames, and the connection goes on
                self._end_frames(path)
                raise
            if block is None:
                break
            view = memoryview(block)
            while view:
                frame, view = view[:_FRAME_BYTES], view[_FRAME_BYTES:]
                self._line.write(memoryview(b"%d\n" % len(frame)))
                self._line.write(frame)
        self._end_frames(path)

    def follow(self, path: str) -> None:
        """See `ByteStore.follow`; the shell does one thing at a time."""

    def publish(self, partial: str, final: str) -> None:
        """See `ByteStore.publish`."""
        self._send("publish", partial, final.rpartition("/")[2])
        self._done(final)

    def remove(self, path: str) -> None:
        """See `ByteStore.remove`."""
        self._asked("remove", path)

    def remove_folder(self, path: str) -> None:
        """See `ByteStore.remove_folder`."""
        self._asked("remove_folder", path)

    def free_bytes(self) -> int | None:
        """See `ByteStore.free_bytes`; of the nearest folder of the root that exists."""
        match self._asked("free", "."):
            case ["free", blocks, block_bytes]:
                return int(blocks) * int(block_bytes)
        raise self._nonsense()

    def close(self) -> None:
        """See `ByteStore.close`."""
        self._channel.close()

    def _end_frames(self, path: str) -> None:
        self._line.write(memoryview(b"0\n"))
        self._done(path)

    def _done(self, path: str) -> None:
        """Wait for the word that something was done."""
        match self._answer(path):
            case ["ok"]:
                return
            case ["none"]:
                raise self._missing(path)
        raise self._nonsense()

    def _asked(self, operation: str, path: str, *more: str) -> list[str]:
        self._send(operation, path, *more)
        return self._answer(path)

    def _send(self, *lines: str) -> None:
        for line in lines:
            if "\n" in line or "\0" in line:
                raise PermanentFault(
                    "a name with a line break or a zero byte does not go to an account without Python",
                    subject=repr(line),
                    remedy="give the file another name, or use sftp",
                )
        self._line.write(memoryview("".join(f"{line}\n" for line in lines).encode()))

    def _answer(self, path: str) -> list[str]:
        """Receive an answer; what the far side could not do is raised."""
        while (said := self._line.source.readline(_LONGEST_ANSWER_BYTES)) == b"beat\n":
            pass
        if not said:
            raise EOFError
        if not said.endswith(b"\n") or not _ANSWER.fullmatch(said[:-1]):
            raise self._nonsense()
        word, _, rest = said[:-1].decode(errors="replace").partition(" ")
        if word == "!":
            number = _errno_in(rest)
            raise OSError(number, os.strerror(number), self._named(path))
        if fault := fault_told({"refused": word, "name": rest}, self._named(path)) if word in _REFUSALS else None:
            raise fault
        return [word, *rest.split()]

    def _missing(self, path: str) -> OSError:
        return OSError(errno.ENOENT, os.strerror(errno.ENOENT), self._named(path))

    def _nonsense(self) -> RetryableFault:
        return RetryableFault("the far side answers nonsense", subject=self._where)

    def _named(self, path: str) -> str:
        return f"{self._where}:{self._root.rstrip('/')}/{path}"


_REFUSALS = ("link", "kind", "names")


def _errno_in(words: str) -> int:
    """Find the number of the error that a tool tells in English behind its last colon; EIO where it tells none."""
    said = words.rpartition(": ")[2]
    return next((number for number in errno.errorcode if os.strerror(number) == said), errno.EIO)
