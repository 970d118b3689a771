"""Small files, framed back to back: no round trip a file, and groups that are flushed and named together."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

from tasks.errors import InputError, RetryableFault
from transfer.brake import Brake
from transfer.cargo import Item
from transfer.connections import connections_for
from transfer.faults import fault_of
from transfer.journal import Journal
from transfer.lane import Lane
from transfer.store import FileState
from transfer.streams.far_files import Folder, Refusal, write_all
from transfer.streams.far_group import Group
from transfer.streams.far_store import FarStore

LARGEST_SMALL_BYTES = 4 << 20
_GROUP_FILES, _GROUP_BYTES = 32, 4 << 20  # each has its journal open
_ASKED_FILES = 200
_AHEAD = 2  # groups of one stream that are on their way before the first of them is answered


class SmallFiles:
    """Makes one attempt at many small files, over all lanes.

    What does not go smoothly is left open, without a fault: a file that is missing, of another size or no
    file, one that arrives damaged or cannot be written. Moved alone it shows what is wrong with it.

    Parameters
    ----------
    roots
        Of the source and the destination; used where that is this machine.
    source_path
        Gives an item's path below the source's root.
    journals
        Folder of the journals.
    """

    def __init__(
        self,
        lanes: Sequence[Lane],
        roots: tuple[str, str],
        source_path: Callable[[Item], str],
        journals: Path,
        brake: Brake,
    ) -> None:
        self._lanes = lanes
        self._source, self._destination = Folder(roots[0]), Folder(roots[1])
        self._source_path = source_path
        self._journals = journals
        self._brake = brake

    def attempt(self, items: Sequence[Item]) -> None:
        """Bring every item as far as it goes; a connection that breaks is the fault of what was on it.

        Raises
        ------
        InputError
            An account, key or host key is wrong.
        """
        queue: deque[list[Item]] = deque()
        try:
            self._look(items)
            queue.extend(_groups([item for item in items if item.is_open]))
            problem: Exception | None = None
            lanes = self._worthy_lanes(queue)
            with ThreadPoolExecutor(len(self._lanes), thread_name_prefix="camnet-stream") as pool:
                streams = [pool.submit(self._drain, lane, queue) for lane in lanes]
                try:
                    for stream in streams:
                        problem = stream.result() or problem
                except BaseException:
                    queue.clear()  # the other lanes end after what they have on their way
                    raise
            if problem:  # no lane was left for these
                _fail([item for group in queue for item in group], problem)
        finally:
            for item in items:
                _close_journal(item)

    def _look(self, items: Sequence[Item]) -> None:
        """Find out which files are there already."""
        lane = self._lanes[0]
        for first in range(0, len(items), _ASKED_FILES):
            asked = items[first : first + _ASKED_FILES]
            try:
                for item, state in zip(asked, _states(lane, asked), strict=True):
                    if state and (state.bytes, state.digest) == (item.entry.bytes, item.entry.digest):
                        item.effort.verified_by = state.digested_by
                        self._settle(item, lane)
            except Exception as problem:
                lane.close()
                _fail([item for item in items[first:] if item.is_open], problem)
                return

    def _worthy_lanes(self, queue: deque[list[Item]]) -> Sequence[Lane]:
        """Give the lanes that so many groups and this link are worth; none where the link is broken."""
        most = min(len(queue), len(self._lanes))
        if most < 2:
            return self._lanes[:most]
        try:
            return self._lanes[: connections_for(self._lanes[0], fewest=1, most=most)]
        except Exception as problem:
            self._lanes[0].close()
            _fail([item for group in queue for item in group], problem)
            queue.clear()
            return ()

    def _settle(self, item: Item, lane: Lane) -> None:
        """Sweep what a transfer left that died after the rename."""
        if (self._journals / item.target.journal_name()).exists():
            with closing(Journal(self._journals, item.target)) as journal:
                item.move.clean(lane, journal)
        item.move.arrived(item.entry.bytes)
        item.state = "already"

    def _drain(self, lane: Lane, queue: deque[list[Item]]) -> Exception | None:
        """Move groups until there are none; return what ended it before."""
        asked: deque[list[Item]] = deque()
        sent: deque[tuple[list[Item], list[bool] | None]] = deque()
        stale: list[str] = []
        begun: list[Item] = []
        since_s = time.monotonic()
        try:
            while True:
                while len(asked) + len(sent) < _AHEAD and (group := _next(queue)):
                    asked.append(group)
                    group[:] = [item for item in group if self._begin(item, lane, stale)]
                    begun += group
                if asked:
                    sent.append((asked[0], self._forward(asked[0], lane)))
                    asked.popleft()
                if sent and (not asked or not isinstance(lane.destination, FarStore)):
                    group, named = sent[0]
                    if named is None and isinstance(lane.destination, FarStore):
                        named = lane.destination.committed(len(group))
                    since_s = _finish(group, named or [], since_s)
                    sent.popleft()
                if not asked and not sent and not queue:
                    break
            for partial in stale:
                lane.destination.remove(partial)
            for item in begun:
                if item.is_open:
                    with closing(Journal(self._journals, item.target, flushed=False)) as journal:
                        item.move.clean(lane, journal)
        except Exception as problem:
            lane.close()
            _fail([item for group in [*asked, *(group for group, _ in sent)] for item in group], problem)
            return problem
        return None

    def _begin(self, item: Item, lane: Lane, stale: list[str]) -> bool:
        """Take the journal, and ask a far source for the file; False where another process moves it."""
        try:
            item.journal = Journal(self._journals, item.target, flushed=False)
        except RetryableFault:
            return False
        if item.journal.stale_partial:
            stale.append(item.journal.stale_partial)
        if item.entry.bytes:
            item.effort.bytes_resent += item.journal.begin((0, item.entry.bytes))
        if isinstance(lane.source, FarStore):
            lane.source.ask_piece(self._source_path(item), (0, item.entry.bytes))
        return True

    def _forward(self, group: list[Item], lane: Lane) -> list[bool] | None:
        """Hand the files of a group to the destination and have them named; None where that is answered later."""
        here = None if isinstance(lane.destination, FarStore) else Group(self._destination)
        whole = []
        for item in group:
            content = self._content(item, lane)
            if content is None:
                _close_journal(item)
                continue
            self._brake.pass_on(len(content))
            request = {"partial": item.target.partial, "final": item.target.path, "size": len(content)}
            request |= {"sha256": item.entry.digest.removeprefix("sha256:")}
            item.effort.wire_bytes += len(content)
            if isinstance(lane.destination, FarStore):
                lane.destination.put(request, content)
            elif here:
                _write(here, request, content)
            whole.append(item)
        group[:] = whole
        if isinstance(lane.destination, FarStore):
            lane.destination.commit()
        return [one == {} for one in here.commit()] if here else None

    def _content(self, item: Item, lane: Lane) -> memoryview | None:
        """Read a whole file; None where it is not what the manifest says."""
        path, size_bytes = self._source_path(item), item.entry.bytes
        if isinstance(lane.source, FarStore):
            return lane.source.whole_piece((0, size_bytes))
        try:
            descriptor = self._source.open(path, os.O_RDONLY)
        except (OSError, Refusal):
            return None
        with os.fdopen(descriptor, "rb", buffering=0) as file:
            content = file.read(size_bytes + 1) if os.fstat(descriptor).st_size == size_bytes else b""
        return memoryview(content) if len(content) == size_bytes else None


def _states(lane: Lane, items: Sequence[Item]) -> list[FileState | None]:
    """Look what lies under the final names, with digests where the sizes are right; None also for what is no file."""
    paths, sizes = [item.target.path for item in items], [item.entry.bytes for item in items]
    if isinstance(lane.destination, FarStore):
        found = lane.destination.states(paths, sizes)
        return [None if isinstance(state, Exception) else state for state in found]
    states = []
    for path, size_bytes in zip(paths, sizes, strict=True):
        try:
            state = lane.destination.stat(path)
            if state and state.bytes == size_bytes:
                state = lane.destination.stat(path, digest=True)
        except Exception as problem:
            if fault_of(problem, subject=path) is None:
                raise
            state = None
        states.append(state)
    return states


def _write(group: Group, request: dict[str, object], content: memoryview) -> None:
    descriptor, problem = -1, None
    try:
        descriptor = group.begin(request)
        write_all(descriptor, content, 0)
    except (OSError, Refusal) as error:
        problem = error
    group.add(request, descriptor, problem)


def _finish(group: list[Item], named: Sequence[bool], since_s: float) -> float:
    """Note what has its name, and share out the seconds since the group before; return the time."""
    now_s = time.monotonic()
    whole_bytes = sum(item.entry.bytes for item in group)
    for item, is_named in zip(group, named, strict=True):
        share = item.entry.bytes / whole_bytes if whole_bytes else 1 / len(group)
        item.effort.wire_seconds += share * (now_s - since_s)
        if is_named and item.journal:
            item.journal.discard()
            item.effort.verified_by = "read back with its group"
            item.state = "done"
            item.move.arrived(item.entry.bytes)
        _close_journal(item)
    return now_s


def _close_journal(item: Item) -> None:
    if item.journal:
        item.journal.close()
        item.journal = None


def _fail(items: Sequence[Item], problem: Exception) -> None:
    if isinstance(problem, InputError):
        raise problem
    for item in items:
        fault = fault_of(problem, subject=f"{item.target.site}:{item.target.path}")
        if fault is None:
            raise problem
        if item.is_open:
            item.fault = fault


def _groups(items: Sequence[Item]) -> Iterator[list[Item]]:
    group: list[Item] = []
    for item in items:
        group.append(item)
        if len(group) >= _GROUP_FILES or sum(one.entry.bytes for one in group) >= _GROUP_BYTES:
            yield group
            group = []
    if group:
        yield group


def _next(queue: deque[list[Item]]) -> list[Item] | None:
    try:
        return queue.popleft()
    except IndexError:
        return None
