"""A folder at the far side as a `transfer.store.ByteStore`, and the pieces and groups that travel ahead of answers."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

from tasks.errors import CamNetError, RetryableFault
from transfer.piece_store import PieceStore
from transfer.ranges import Range
from transfer.store import FileState
from transfer.streams.channel import Channel
from transfer.streams.far_faults import fault_told
from transfer.streams.far_files import BLOCK_BYTES

_BY = "python3 at the far side"
_SENT_BYTES = 1 << 20


class FarStore(PieceStore):
    """Files below `root` of an account, over one session.

    Parameters
    ----------
    open_channel
        Opens a channel.
    where
        ``user@host``, for messages.
    """

    def __init__(self, open_channel: Callable[[], Channel], root: str, where: str) -> None:
        self._root = root
        self._where = where
        self._channel = open_channel()
        self._line = self._channel.line
        self._has_answered = False
        self.follower: FarFollower | None = None
        self._block = memoryview(bytearray(BLOCK_BYTES))
        try:
            self._line.send({"op": "root", "root": root})
        except BaseException:  # an interruption too must not leave it open
            self.close()
            raise

    @cached_property
    def round_trip_s(self) -> float:
        """Seconds to the far side and back."""
        if not self._has_answered:
            self._asked({"op": "ping"})  # waits for the connection, too
        began_s = time.monotonic()
        self._asked({"op": "ping"})
        return time.monotonic() - began_s

    def stat(self, path: str, *, digest: bool = False) -> FileState | None:
        """See `ByteStore.stat`."""
        (state,) = self.states([path], [-1 if digest else -2])
        if isinstance(state, Exception):
            raise state
        return state

    def states(self, paths: Sequence[str], sizes: Sequence[int]) -> list[FileState | Exception | None]:
        """Describe many files in one round trip, with digests where they have these sizes (-1: any)."""
        answer = self._asked({"op": "stat", "paths": list(paths), "sizes": list(sizes)})
        states = answer.get("states")
        if not isinstance(states, list) or len(states) != len(paths):
            raise self._nonsense()
        return [self._state(state, path) for state, path in zip(states, paths, strict=True)]

    def read(self, path: str, offset_bytes: int, size_bytes: int) -> Generator[bytes, None, None]:
        """See `ByteStore.read`."""
        self.ask_piece(path, (offset_bytes, size_bytes))
        for block in self.piece(path, (offset_bytes, size_bytes)):
            yield bytes(block)

    def write(self, path: str, offset_bytes: int, blocks: Iterable[bytes | memoryview]) -> None:
        """See `ByteStore.write`."""
        whole = b"".join(blocks)
        self.send_piece(path, (offset_bytes, len(whole)), [whole], make=True)
        self.acknowledge_piece(path)

    def ask_piece(self, path: str, part: Range) -> None:
        """See `PieceStore.ask_piece`."""
        self._line.send({"op": "read", "path": path, "offset": part[0], "size": part[1]})

    def piece(self, path: str, part: Range) -> Generator[memoryview, None, None]:
        """See `PieceStore.piece`."""
        self._received(path)
        left_bytes = part[1]
        while left_bytes:
            block = self._block[: min(BLOCK_BYTES, left_bytes)]
            self._line.fill(block)
            left_bytes -= len(block)
            yield block
        self._received(path)

    def whole_piece(self, part: Range) -> memoryview | None:
        """Receive all of the piece that was asked for first; None where it cannot be read."""
        if "size" not in self._answer():
            return None
        content = memoryview(bytearray(part[1]))
        self._line.fill(content)
        return content if self._answer() == {} else None

    def send_piece(self, path: str, part: Range, blocks: Iterable[bytes | memoryview], *, make: bool = False) -> None:
        """See `PieceStore.send_piece`.

        Parameters
        ----------
        make
            Make the file, and its folders, where they are missing.
        """
        self._begin_piece(path, part, make=make)
        for block in blocks:
            self._line.write(memoryview(block))

    def send_file_piece(self, path: str, part: Range, descriptor: int, before: Callable[[int], None]) -> int:
        """Send a piece of an open file of this machine to the same place of `path`, as `send_piece` does.

        Parameters
        ----------
        before
            Called with the size of each block before it is sent.

        Returns
        -------
        int
            Bytes that there were. Where they are fewer than those of the piece, the file ends there, and the
            connection is of no more use.
        """
        self._begin_piece(path, part)
        end = part[0] + part[1]
        for position in range(part[0], end, _SENT_BYTES):
            block_bytes = min(_SENT_BYTES, end - position)
            before(block_bytes)
            sent_bytes = self._pass(descriptor, position, block_bytes)
            if sent_bytes < block_bytes:
                return position + sent_bytes - part[0]
        return part[1]

    def _pass(self, descriptor: int, position: int, size_bytes: int) -> int:
        """Send a part of an open file; give the bytes that there were."""
        start, end = position, position + size_bytes
        while position < end and (sent_bytes := self._line.pass_file(descriptor, position, end - position)):
            position += sent_bytes
        return position - start

    def _begin_piece(self, path: str, part: Range, *, make: bool = False) -> None:
        request = {"op": "write", "path": path, "offset": part[0], "size": part[1], "make": make}
        if self.follower:
            request["arrived"] = self.follower.arrived_bytes
        self._line.send(request)

    def acknowledge_piece(self, path: str) -> None:
        """See `PieceStore.acknowledge_piece`."""
        self._received(path)

    def end_pieces(self, path: str) -> None:
        """See `PieceStore.end_pieces`; there is nothing to close."""

    def checks(self, path: str, step_bytes: int) -> list[int]:
        """CRC-32 of each `step_bytes` of a file."""
        checks = self._asked({"op": "checks", "path": path, "step": step_bytes}, path).get("crc32")
        if not isinstance(checks, list):
            raise self._nonsense()
        return checks

    def put(self, request: Mapping[str, Any], content: memoryview) -> None:
        """Send a small file (partial, final, size, sha256), ahead of its `commit`."""
        self._line.send({"op": "put", **request})
        self._line.write(content)

    def put_file(self, request: Mapping[str, Any], descriptor: int) -> None:
        """Send a small file of this machine, as `put` does; one that is shorter meanwhile arrives damaged."""
        self._line.send({"op": "put", **request})
        size_bytes = int(request["size"])
        sent_bytes = self._pass(descriptor, 0, size_bytes)
        self._line.write(memoryview(bytes(size_bytes - sent_bytes)))

    def commit(self) -> None:
        """Ask for the small files since the last commit to be verified and published; see `committed`."""
        self._line.send({"op": "commit"})

    def committed(self, files: int) -> list[bool]:
        """Wait for the first commit that was asked for; give for each file whether it has its name."""
        results = self._received(f"{files} files").get("results")
        if not isinstance(results, list) or len(results) != files:
            raise self._nonsense()
        return [one == {} for one in results]

    def follow(self, path: str) -> FarFollower:
        """See `ByteStore.follow`; how far it may go travels with the pieces that are sent."""
        self._line.send({"op": "follow", "path": path})
        self.follower = FarFollower(self, path)
        return self.follower

    def finish_digest(self, path: str) -> FileState | None:
        """Have the digest of the file that is followed finished."""
        self.follower = None
        state = self._state(self._asked({"op": "finish"}), path)
        return state if isinstance(state, FileState) else None

    def publish(self, partial: str, final: str) -> None:
        """See `ByteStore.publish`."""
        self._asked({"op": "publish", "partial": partial, "final": final}, final)

    def remove(self, path: str) -> None:
        """See `ByteStore.remove`."""
        self._asked({"op": "remove", "path": path}, path)

    def remove_folder(self, path: str) -> None:
        """See `ByteStore.remove_folder`."""
        self._asked({"op": "remove_folder", "path": path}, path)

    def free_bytes(self) -> int | None:
        """See `ByteStore.free_bytes`."""
        room = self._asked({"op": "free"}).get("bytes")
        return room if isinstance(room, int) else None

    def close(self) -> None:
        """See `ByteStore.close`."""
        self._channel.close()

    def _asked(self, request: Mapping[str, Any], path: str = "") -> dict[str, Any]:
        self._line.send(dict(request))
        return self._received(path)

    def _answer(self) -> dict[str, Any]:
        try:
            while (answer := self._line.receive()).get("beat"):
                pass
        except ValueError as error:
            raise self._nonsense() from error
        self._has_answered = True
        return answer

    def _received(self, path: str) -> dict[str, Any]:
        """Receive an answer; what the far side could not do is raised."""
        answer = self._answer()
        if fault := self._fault(answer, path):
            raise fault
        return answer

    def _state(self, answer: object, path: str) -> FileState | Exception | None:
        match answer:
            case None:
                return None
            case {"bytes": int(size), "sha256": str(digest)}:
                return FileState(size, f"sha256:{digest}", _BY)
            case {"bytes": int(size)}:
                return FileState(size)
        return self._fault(answer, path) or self._nonsense()

    def _fault(self, answer: object, path: str) -> Exception | None:
        return fault_told(answer, self._named(path)) if isinstance(answer, dict) else self._nonsense()

    def _nonsense(self) -> CamNetError:
        return RetryableFault("the far side answers nonsense", subject=self._where)

    def _named(self, path: str) -> str:
        return f"{self._where}:{self._root.rstrip('/')}/{path}"


class FarFollower:
    """See `transfer.store.Follower`: the far side digests out of its page cache, beside what it receives."""

    def __init__(self, store: FarStore, path: str) -> None:
        self._store = store
        self._path = path
        self.arrived_bytes = 0

    def advance(self, size_bytes: int) -> None:
        """See `Follower.advance`."""
        self.arrived_bytes = size_bytes

    def finish(self) -> FileState | None:
        """See `Follower.finish`."""
        state = self._store.finish_digest(self._path)
        return replace(state, digested_by=f"{_BY}, along the way") if state else None

    def close(self) -> None:
        """See `Follower.close`; the far side gives up with the next file, or with the connection."""
