"""Small files, framed back to back: no round trip a file, and groups that are flushed and named together."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path

from tasks.errors import RetryableFault
from transfer.brake import Brake
from transfer.cargo import Item
from transfer.faults import fault_of
from transfer.journal import Journal
from transfer.lane import Lane, taken
from transfer.over_lanes import drain_over_lanes, fail
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
            if problem := drain_over_lanes(self._lanes, len(queue), queue, self._drain):
                fail([item for group in queue for item in group], problem)
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
                fail([item for item in items[first:] if item.is_open], problem)
                return

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
                while len(asked) + len(sent) < _AHEAD and (group := taken(queue)):
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
            fail([item for group in [*asked, *(group for group, _ in sent)] for item in group], problem)
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
            self._brake.pass_on(item.entry.bytes)
            if self._hand_over(item, lane, here):
                item.effort.wire_bytes += item.entry.bytes
                whole.append(item)
            else:
                _close_journal(item)
        group[:] = whole
        if isinstance(lane.destination, FarStore):
            lane.destination.commit()
        return [one == {} for one in here.commit()] if here else None

    def _hand_over(self, item: Item, lane: Lane, here: Group | None) -> bool:
        """Send or write a whole file; False where it is not what the manifest says."""
        request = {"partial": item.target.partial, "final": item.target.path, "size": item.entry.bytes}
        request |= {"sha256": item.entry.digest.removeprefix("sha256:")}
        if isinstance(lane.source, FarStore):
            content = lane.source.whole_piece((0, item.entry.bytes))
            if content is None:
                return False
            if isinstance(lane.destination, FarStore):
                lane.destination.put(request, content)
            elif here:
                _write(here, request, content)
            return True
        try:
            descriptor = self._source.open(self._source_path(item), os.O_RDONLY)
        except (OSError, Refusal):
            return False
        try:
            if os.fstat(descriptor).st_size != item.entry.bytes:
                return False
            assert isinstance(lane.destination, FarStore)  # noqa: S101 - one of the ends is far
            lane.destination.put_file(request, descriptor)
            return True
        finally:
            os.close(descriptor)


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


def _groups(items: Sequence[Item]) -> Iterator[list[Item]]:
    group: list[Item] = []
    for item in items:
        group.append(item)
        if len(group) >= _GROUP_FILES or sum(one.entry.bytes for one in group) >= _GROUP_BYTES:
            yield group
            group = []
    if group:
        yield group
