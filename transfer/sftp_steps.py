"""The way of one small file over SFTP, as steps between which other files may go on."""

from __future__ import annotations

import errno
import logging
import time
from collections import deque
from collections.abc import Callable, Generator
from contextlib import closing
from pathlib import Path
from typing import Protocol

from tasks.errors import CamNetError
from transfer import sftp_session
from transfer.brake import Brake, Cancelled
from transfer.cargo import Item
from transfer.journal import Journal
from transfer.lane import Lane
from transfer.remote_digest import RemoteDigests
from transfer.sftp import SftpStore
from transfer.sftp_session import Reading, Writing
from transfer.sftp_wire import Answer, SftpWire

_log = logging.getLogger(__name__)


class Wait(Protocol):
    """What a step waits for."""

    def is_over(self) -> bool:
        """Whether it is there, without waiting."""

    def until_over(self) -> None:
        """Wait for it."""


Steps = Generator[Wait, None, None]


class Under:
    """A file that is under way."""

    def __init__(self, item: Item, steps: Steps) -> None:
        self.item = item
        self._steps = steps
        self._wait: Wait | None = None

    def advance(self) -> bool:
        """Go on as far as possible without waiting; give whether there is more to do."""
        while self._wait is None or self._wait.is_over():
            try:
                self._wait = next(self._steps)
            except StopIteration:
                return False
        return True

    def wait(self) -> None:
        """Wait for what the next step needs."""
        if self._wait:
            self._wait.until_over()

    def close(self) -> None:
        """Give up."""
        self._steps.close()


class _Unsmooth(Exception):
    """The file has to be moved alone."""


class SmallFileSteps:
    """The steps of small files over one lane; see `transfer.sftp_small.SftpSmallFiles` for the parameters."""

    def __init__(self, lane: Lane, source_path: Callable[[Item], str], journals: Path, brake: Brake) -> None:
        self._lane = lane
        self._source_path = source_path
        self._journals = journals
        self._brake = brake
        self._ends = [end for end in (lane.source, lane.destination) if isinstance(end, SftpStore)]
        self._digests = _DigestQueue(lane.destination.digests) if isinstance(lane.destination, SftpStore) else None
        self._since_s = time.monotonic()

    @property
    def is_able(self) -> bool:
        """Whether the destination can tell digests of files one after the other."""
        return self._digests is None or self._digests.is_able

    def flush(self) -> None:
        """Send what was asked and waits to be sent."""
        if self._digests:
            self._digests.flush()
        for end in self._ends:
            end.session.wire.flush()

    def of(self, item: Item) -> Steps:
        """Give the steps of one file; what is wrong with it alone leaves it open."""
        try:
            yield from self._moved(item)
        except (CamNetError, OSError, _Unsmooth) as problem:
            if isinstance(problem, Cancelled | ConnectionError | TimeoutError):
                raise
            _log.debug("%s is moved alone (%s)", item.target.path, problem)
        finally:
            if item.journal:
                item.journal.close()
                item.journal = None
            now_s = time.monotonic()
            item.effort.wire_seconds += now_s - self._since_s
            self._since_s = now_s

    def _moved(self, item: Item) -> Steps:
        self._brake.wait(0)
        if (yield from self._is_there(item)):
            item.move.arrived(item.entry.bytes)
            item.state = "already"
            return
        item.journal = Journal(self._journals, item.target, flushed=False)
        if item.journal.stale_partial or item.journal.arrived:
            raise _Unsmooth("a part of it has come before")
        content = yield from self._content(item)
        if item.entry.bytes:
            item.effort.bytes_resent += item.journal.begin((0, item.entry.bytes))
            self._brake.pass_on(len(content))
        item.effort.wire_bytes += len(content)
        if isinstance(self._lane.destination, SftpStore):
            yield from self._delivered(item, content, self._lane.destination)
            item.move.arrived(item.entry.bytes)
            item.journal.discard()
        else:
            self._lane.destination.write(item.target.partial, 0, (content,))
            item.move.finish(self._lane, item.journal, item.effort)
        item.state = "done"

    def _is_there(self, item: Item) -> Generator[Wait, None, bool]:
        destination, target = self._lane.destination, item.target
        if isinstance(destination, SftpStore):
            looks = destination.look(target.path)
            yield _Asked(destination.session.wire, looks[-1])
            size_bytes = destination.judged(target.path, looks)
            is_there = size_bytes == item.entry.bytes and (yield from self._is_right(item, target.path, destination))
        else:
            is_there = item.move.is_there(self._lane, item.effort)
            if destination.stat(target.partial):
                raise _Unsmooth("a part of it has come before")
        if is_there and (self._journals / target.journal_name()).exists():
            raise _Unsmooth("a part of it has come before")
        return is_there

    def _content(self, item: Item) -> Generator[Wait, None, bytes]:
        """Read the whole file at the source."""
        source, path, size_bytes = self._lane.source, self._source_path(item), item.entry.bytes
        if not isinstance(source, SftpStore):
            item.move.check_source(self._lane)
            with closing(source.read(path, 0, size_bytes)) as blocks:
                return b"".join(blocks)
        looks = source.look(path)
        yield _Asked(source.session.wire, looks[-1])
        if source.judged(path, looks) != size_bytes:
            raise _Unsmooth("the source has another size")
        opened = source.session.ask_open(source.full(path), sftp_session.READ)
        handle = (yield from _answered(source, opened)).handle()
        reading = Reading(source.session, handle)
        try:
            reading.ask((0, size_bytes))
            if reading.last_request is not None:
                yield _Asked(source.session.wire, reading.last_request)
            content = b"".join(reading.blocks(size_bytes))
        finally:
            reading.abandon()
            source.session.wire.abandon([source.session.ask_close(handle)])
        if len(content) != size_bytes:
            raise _Unsmooth("the source has another size")
        return content

    def _delivered(self, item: Item, content: bytes, destination: SftpStore) -> Steps:
        """Write, flush and close; look what lies there; give it its name."""
        session, partial = destination.session, item.target.partial
        writing = Writing(session, (yield from self._opened(partial, destination)))
        try:
            mark = writing.send(0, (content,))
            requests = session.ask_flush(writing.handle)
        finally:
            closed = session.ask_close(writing.handle)
        yield _Asked(session.wire, closed)
        writing.wait_for(mark)
        for request in (*requests, closed):
            session.wire.answer(request).done()
        looks = destination.look(partial)
        if not (yield from self._is_right(item, partial, destination)):
            raise _Unsmooth("it has arrived damaged")
        if destination.judged(partial, looks) != item.entry.bytes:
            raise _Unsmooth("it was changed at the destination")
        renamed = session.ask_rename(destination.full(partial), destination.full(item.target.path))
        (yield from _answered(destination, renamed)).done()

    def _opened(self, partial: str, destination: SftpStore) -> Generator[Wait, None, bytes]:
        """Make a new file; its folders, where they are missing. One that is there already is refused."""
        name, session = destination.full(partial), destination.session
        answer = yield from _answered(destination, session.ask_open(name, sftp_session.WRITE | sftp_session.NEW))
        try:
            return answer.handle()
        except OSError as error:
            if error.errno != errno.ENOENT:
                raise
        destination.checked(partial, create=True)
        return session.open(name, sftp_session.WRITE | sftp_session.NEW)

    def _is_right(self, item: Item, path: str, destination: SftpStore) -> Generator[Wait, None, bool]:
        """Whether the digest of what lies at the destination is the manifest's."""
        if self._digests is None:
            return False
        asked = self._digests.ask(destination.full(path))
        yield asked
        item.effort.verified_by = f"{destination.digests.program} at the far side"
        return asked.found == (item.entry.digest, item.entry.bytes)


class _Asked:
    """A request whose answer is waited for."""

    def __init__(self, wire: SftpWire, request: int) -> None:
        self._wire = wire
        self._request = request

    def is_over(self) -> bool:
        return self._wire.is_answered(self._request)

    def until_over(self) -> None:
        self._wire.wait_for(self._request)


def _answered(end: SftpStore, request: int) -> Generator[Wait, None, Answer]:
    yield _Asked(end.session.wire, request)
    return end.session.wire.answer(request)


class _DigestQueue:
    """Digests that were asked for, told in the order of asking."""

    def __init__(self, digests: RemoteDigests) -> None:
        self.is_able = digests.program == "python3"
        self._digests = digests
        self._names: list[bytes] = []
        self._asked: deque[_AskedDigest] = deque()

    def ask(self, name: bytes) -> _AskedDigest:
        asked = _AskedDigest(self)
        self._asked.append(asked)
        self._names.append(name)
        return asked

    def flush(self) -> None:
        if self._names:
            self._digests.ask_finished(self._names)
            self._names.clear()

    def take(self) -> None:
        """Wait for the next digest."""
        self.flush()
        asked = self._asked.popleft()
        asked.found = self._digests.next_finished()
        asked.is_told = True


class _AskedDigest:
    def __init__(self, queue: _DigestQueue) -> None:
        self._queue = queue
        self.found: tuple[str, int] | None = None
        self.is_told = False

    def is_over(self) -> bool:
        return self.is_told

    def until_over(self) -> None:
        while not self.is_told:
            self._queue.take()
