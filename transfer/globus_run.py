"""One Globus task for some files: submitted, followed to its end, and what it has brought published."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass

from tasks.errors import CamNetError, InputError, IntegrityError, PermanentFault, PolicyRefusal, RetryableFault
from transfer.brake import Brake
from transfer.cargo import Item
from transfer.faults import fault_of
from transfer.globus_faults import GlobusAway, TaskStopped, lasting_fault
from transfer.globus_record import GlobusRecord
from transfer.globus_service import GlobusService
from transfer.globus_store import GlobusStore
from transfer.globus_task import GlobusTask, TaskEnd
from transfer.lane import Lane
from transfer.model import Batch

_log = logging.getLogger(__name__)
_CHANGED = "make the manifest again, then transfer again"
_ROOTS = "let root in the [globus] table name the folder that root names in the site file"


class _NoNotes:
    """Of a partial file nothing is noted but the task that it belongs to."""

    def restart(self) -> None: ...

    def discard(self) -> None: ...


@dataclass(frozen=True)
class GlobusRun:
    """What the steps of an attempt share.

    Parameters
    ----------
    lane
        Looks at both ends, and renames at the destination.
    stall_s
        See `GlobusTask`.
    """

    batch: Batch
    service: GlobusService
    lane: Lane
    brake: Brake
    stall_s: float

    def each(self, items: Sequence[Item], step: Callable[[Item], None]) -> None:
        """Take one step of each item that is open; what it cannot do becomes its fault."""
        away: GlobusAway | None = None
        for item in items:
            if away and item.is_open:
                item.fault = away  # asking for each again would take hours
            fault = self._fault([item], lambda item=item: step(item))  # type: ignore[misc]  # mypy cannot see the default
            away = fault if isinstance(fault, GlobusAway) else away

    def together(self, items: Sequence[Item], step: Callable[[], None]) -> None:
        """Take one step for all items that are open; what it cannot do becomes the fault of each."""
        self._fault(items, step, shared=True)

    def carry(self, record: GlobusRecord, items: Sequence[Item], *, is_new: bool) -> None:
        """Submit the task of a record, follow it, and publish what it has brought.

        The record stays where the task goes on, or where what it has brought cannot be published for now. Files
        that the task of an earlier call has not brought are open afterwards: a new task may carry them.
        """
        ends: list[TaskEnd] = []
        with closing(record):
            self.together(items, lambda: ends.append(self._follow(record, items, is_new=is_new)))
            if ends:
                self._publish(record, ends[0], items)
            arrived = ends[0].arrived if ends else frozenset()
            left = [one for one in items if _stays(one, record.partial_of(one.target) in arrived, is_over=bool(ends))]
            if not left:
                if not ends:
                    self._task(record).cancel()  # nobody will follow it any more
                self._tidy(record, items)
        if not is_new and not self.brake.is_stopped:
            kept = {item.target.path for item in left}
            for item in items:
                if item.target.path not in kept:
                    item.fault, item.shares_fault = None, False

    def abandon(self, record: GlobusRecord) -> None:
        """Cancel a task that brings nothing that is wanted, and take away what it has brought.

        Where the service does not answer, the record stays for a later call.
        """
        with closing(record):
            try:
                task = self._task(record)
                task.submit()
                task.cancel()
                task.follow(self.brake, lambda arrived_bytes: None)
            except PermanentFault as fault:
                _log.warning("%s", fault)
            except CamNetError as fault:
                _log.warning("%s", fault)
                return
            self._tidy(record, [])

    def _fault(self, items: Sequence[Item], step: Callable[[], None], *, shared: bool = False) -> CamNetError | None:
        still_open = [item for item in items if item.is_open]
        if not still_open:
            return None
        try:
            self.brake.wait(0)
            step()
        except (InputError, PolicyRefusal):
            raise
        except Exception as problem:
            target = still_open[0].target
            fault = fault_of(problem, subject=f"{target.site}:{target.path}")
            if fault is None:
                raise
            if isinstance(fault, RetryableFault):
                self.lane.close()
            for item in still_open:
                item.fault = fault
                item.shares_fault |= shared and len(items) > 1 and isinstance(fault, PermanentFault)
            return fault
        return None

    def _task(self, record: GlobusRecord) -> GlobusTask:
        route = f"{self.batch.source.site} → {self.batch.destination.site}"
        return GlobusTask(self.service.client, record, route, stall_s=self.stall_s)

    def _follow(self, record: GlobusRecord, items: Sequence[Item], *, is_new: bool) -> TaskEnd:
        """Wait for the end of the task; share out its time by the files' bytes."""

        def tell(arrived_bytes: int) -> None:
            # The service tells one figure for the task: its files count as carried one after the other.
            for item in items:
                item.move.arrived(max(0, min(item.entry.bytes, arrived_bytes)))
                arrived_bytes -= item.entry.bytes

        task = self._task(record)
        task.submit()
        started_s = time.monotonic()
        end = task.follow(self.brake, tell)
        wire_s = time.monotonic() - started_s
        if not is_new:
            # Nobody of us has seen it begin. Less than the second that the service's clock has counts as one.
            wire_s = 0.0 if end.seconds is None else max(1.0, end.seconds)
        whole_bytes = sum(item.entry.bytes for item in items)
        for item in items:
            share = item.entry.bytes / whole_bytes if whole_bytes else 1 / len(items)
            item.effort.wire_seconds += share * wire_s
            if record.partial_of(item.target) in end.arrived:
                item.effort.wire_bytes += item.entry.bytes
        return end

    def _publish(self, record: GlobusRecord, end: TaskEnd, items: Sequence[Item]) -> None:
        if isinstance(self.lane.destination, GlobusStore):
            self.lane.destination.forget()

        def publish(item: Item) -> None:
            partial = record.partial_of(item.target)
            if partial in end.arrived:
                self._finish(item, partial)
            elif partial in end.skipped:
                source = f"{self.batch.source.site}:{self.batch.source_path(item.entry)}"
                raise _skipped_fault(end.skipped[partial], source)
            else:
                item.shares_fault = len(items) > 1 and not isinstance(end.fault, TaskStopped)
                raise end.fault or RetryableFault("was left out by Globus", subject=item.target.path)

        self.each(items, publish)

    def _finish(self, item: Item, partial: str) -> None:
        """Verify the file as far as the destination can be looked into, and give it its final name."""
        paths = (self.lane.source, self.batch.source_path(item.entry)), (self.lane.destination, partial)
        for store, path in paths:
            if isinstance(store, GlobusStore):
                store.vouch(path, item.entry.digest)  # the task has checked both
        if self.lane.destination.stat(partial) is None:
            raise PermanentFault(
                "was brought by Globus, but is not seen there", subject=f"{item.target.site}:{partial}", remedy=_ROOTS
            )
        item.move.finish(self.lane, _NoNotes(), item.effort, partial=partial)
        item.state = "done"

    def _tidy(self, record: GlobusRecord, items: Sequence[Item]) -> None:
        """Take away the partial files that are left of a task, and its record; what cannot be removed is logged."""
        published = {record.partial_of(item.target) for item in items if item.state == "done"}
        partials = [partial for partial in record.partials if partial not in published]
        store = self.lane.destination if partials else None
        try:
            if isinstance(store, GlobusStore):
                store.remove_all(partials)
            elif store:
                for partial in partials:
                    store.remove(partial)
        except Exception as problem:
            if fault_of(problem, subject=self.batch.destination.site) is None:
                raise
            _log.warning("%s: partial files could not be removed (%s)", self.batch.destination.site, problem)
        record.discard()


def _stays(item: Item, has_arrived: bool, *, is_over: bool) -> bool:
    """Whether a later attempt can go on with the task of this item."""
    return isinstance(item.fault, RetryableFault) and (has_arrived or not is_over)


def _skipped_fault(reason: str, subject: str) -> CamNetError:
    if "NOT_FOUND" in reason:
        return IntegrityError("is in the manifest but not there", subject=subject, remedy=_CHANGED)
    return lasting_fault(reason, subject) or PermanentFault(f"was left out by Globus ({reason})", subject=subject)
