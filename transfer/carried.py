"""The mover around a carrier: it moves files in groups, verifies each at the destination, and publishes it."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import asdict

from tasks.errors import CamNetError, InputError, PolicyRefusal, RetryableFault
from transfer.brake import Brake, Cancelled
from transfer.cargo import Item, Part
from transfer.carrier import Carrier, Load, Watch
from transfer.engine import ignore_progress
from transfer.faults import fault_of
from transfer.file_move import FileMove
from transfer.journal import Journal, Target
from transfer.lane import Lane
from transfer.ledger import Ledger, LedgerRow, megabits_per_s, utc_now
from transfer.manifest import Entry
from transfer.model import Batch, Endpoint, Features, Outcome, Progress, TransferOptions, failed_outcome
from transfer.policy import refuse_forbidden
from transfer.ranges import total_bytes
from transfer.retry import pause_s
from transfer.store import ByteStore

_log = logging.getLogger(__name__)
_GROUP_BYTES = 256 << 20
_PROBE_BYTES = 64 << 10


class CarriedMover:
    """Moves batches with a carrier; see `transfer.mover.Mover` for what it promises.

    The stores at both ends look, digest, rename and remove; the carrier carries bytes. Files of one group
    share its seconds in the ledger by their bytes.

    Parameters
    ----------
    open_source, open_destination
        Open the control connections.
    """

    def __init__(
        self,
        carrier: Carrier,
        source: Endpoint,
        destination: Endpoint,
        *,
        open_source: Callable[[], ByteStore],
        open_destination: Callable[[], ByteStore],
        options: TransferOptions,
        ledger: Ledger,
    ) -> None:
        self._carrier = carrier
        self._ends = source, destination
        self._open = open_source, open_destination
        self._options = options
        self._ledger = ledger
        self._brake = Brake()

    @property
    def features(self) -> Features:
        """See `Mover.features`."""
        return self._carrier.features

    def cancel(self) -> None:
        """See `Mover.cancel`."""
        self._brake.stop()

    def move(self, batch: Batch, progress: Progress = ignore_progress) -> list[Outcome]:
        """See `Mover.move`."""
        if (batch.source, batch.destination) != self._ends:
            raise InputError("the batch goes between other ends than this mover", subject=batch.run)
        refuse_forbidden(batch)
        outcomes: dict[str, Outcome] = {}
        with closing(Lane(*self._open)) as lane, closing(self._carrier):
            for group in self._groups(batch.entries):
                outcomes.update(self._move_group(batch, group, lane, progress))
        self._brake.release()
        return [outcomes[entry.path] for entry in batch.entries]

    def _groups(self, entries: Sequence[Entry]) -> Iterator[list[Entry]]:
        """Large files alone, small ones together."""
        group: list[Entry] = []
        for entry in entries:
            if entry.bytes > self._options.chunk_bytes:
                yield [entry]
                continue
            group.append(entry)
            if len(group) >= self._carrier.most_files or sum(one.bytes for one in group) >= _GROUP_BYTES:
                yield group
                group = []
        if group:
            yield group

    def _move_group(self, batch: Batch, entries: Sequence[Entry], lane: Lane, progress: Progress) -> dict[str, Outcome]:
        """Move a group with all attempts; only what concerns the whole batch is raised."""
        outcomes: dict[str, Outcome] = {}
        items = [self._item(batch, entry, progress) for entry in entries]
        for k in range(self._options.attempts):
            self._attempt(batch, items, lane, k)
            again = []
            for item in items:
                path, fault = item.entry.path, item.fault
                passes = isinstance(fault, RetryableFault) and not self._brake.is_stopped
                if fault is None:
                    outcomes[path] = Outcome.model_validate({"path": path, "state": item.state})
                elif passes and k + 1 < self._options.attempts:
                    again.append(Item(item.entry, item.target, item.move))
                elif item.shares_fault and not isinstance(fault, RetryableFault):
                    # One bad file must not take the others with it: from here on each goes alone.
                    outcomes |= self._move_group(batch, [item.entry], lane, progress)
                else:
                    outcomes[path] = failed_outcome(path, fault)
            if not again:
                break
            items = again
            self._pause(k)
        return outcomes

    def _pause(self, failures: int) -> None:
        try:
            self._brake.wait(pause_s(failures, self._options.backoff_s))
        except Cancelled:
            return  # the next attempt finds the brake stopped, and says so for each file

    def _item(self, batch: Batch, entry: Entry, progress: Progress) -> Item:
        path = batch.destination_path(entry)
        target = Target(batch.destination.site, batch.destination.root, path, entry.bytes, entry.digest)
        move = FileMove(
            entry,
            batch.source_path(entry),
            target,
            source_site=batch.source.site,
            chunk_bytes=self._carrier.segment_bytes or max(1, entry.bytes),
            arrived=lambda arrived_bytes: progress(entry.path, arrived_bytes),
            brake=self._brake,
        )
        return Item(entry, target, move)

    def _attempt(self, batch: Batch, items: Sequence[Item], lane: Lane, retries: int) -> None:
        """Bring every item one attempt further, and write its row."""
        start = utc_now()
        try:
            with ExitStack() as stack:
                for item in items:
                    self._guarded(item, lane, lambda item=item: self._prepare(item, lane, stack))  # type: ignore[misc]  # mypy cannot see the default
                self._carry(batch, items, lane)
                for item in items:
                    self._guarded(item, lane, lambda item=item: self._finish(item, lane))  # type: ignore[misc]  # as above
        finally:
            for item in items:
                self._record(batch, item, retries, start)

    def _guarded(self, item: Item, lane: Lane, step: Callable[[], None]) -> None:
        """Take one step of one item; what it cannot do becomes its fault."""
        if not item.is_open:
            return
        try:
            self._brake.wait(0)
            step()
        except (InputError, PolicyRefusal):
            raise
        except Exception as problem:
            fault = fault_of(problem, subject=f"{item.target.site}:{item.target.path}")
            if fault is None:
                raise
            self._fail(item, fault, lane)

    def _fail(self, item: Item, fault: CamNetError, lane: Lane) -> None:
        item.fault = fault
        if isinstance(fault, RetryableFault):
            lane.close()
        elif item.journal:
            self._clean(item, item.journal, lane)

    def _clean(self, item: Item, journal: Journal, lane: Lane) -> None:
        """Take away what a file leaves that cannot be moved; the first error is the one that matters."""
        try:
            item.move.clean(lane, journal)
        except Exception as problem:
            if fault_of(problem, subject=item.target.partial) is None:
                raise
            _log.warning("%s: %s could not be removed (%s)", item.target.site, item.target.partial, problem)

    def _prepare(self, item: Item, lane: Lane, stack: ExitStack) -> None:
        journals = self._ledger.path.parent / "journals"
        there = item.move.is_there(lane, item.effort)
        if there and not (journals / item.target.journal_name()).exists():
            item.state = "already"
            return
        item.journal = stack.enter_context(closing(Journal(journals, item.target)))
        if there:
            item.move.clean(lane, item.journal)
            item.state = "already"
            return
        item.todo = item.move.prepare(lane, item.journal, keep_begun=self._carrier.continues_partial)

    def _carry(self, batch: Batch, items: Sequence[Item], lane: Lane) -> None:
        """Carry the parts that are missing: the first part of every file, then the second, and so on."""
        while parts := [Part(item, item.journal, item.todo[0]) for item in items if item.journal and item.todo]:
            fault = self._carry_parts(batch, parts, lane)
            for part in parts:
                if fault is None:
                    part.journal.arrive(part.range)
                    part.item.todo.pop(0)
            if fault:
                break
        else:
            return
        for part in parts:
            self._guarded(part.item, lane, lambda part=part: self._blame(part.item, fault, len(parts), lane))  # type: ignore[misc]  # mypy cannot see the default

    def _carry_parts(self, batch: Batch, parts: Sequence[Part], lane: Lane) -> CamNetError | None:
        """Let the carrier work; give its fault, and note the seconds."""
        loads = []
        before_bytes = {part.item.target.partial: total_bytes(part.journal.arrived) for part in parts}
        moves = {part.item.target.partial: part.item.move for part in parts}
        for part in parts:
            part.item.effort.bytes_resent += part.journal.begin(part.range)
            source = batch.source_path(part.item.entry)
            loads.append(Load(source, part.item.target.partial, part.item.entry.bytes, *part.range))

        def tell(partial_path: str, arrived_bytes: int) -> None:
            moves[partial_path].arrived(before_bytes[partial_path] + arrived_bytes)

        watch = Watch(lambda: lane.destination, loads, tell)

        started_s, startup_s, fault = time.monotonic(), 0.0, None
        try:
            startup_s = self._carrier.carry(loads, watch, self._brake)
        except (InputError, PolicyRefusal):
            raise
        except CamNetError as problem:
            fault = problem
        wire_s = max(0.0, time.monotonic() - started_s - startup_s)
        whole_bytes = sum(load.size_bytes for load in loads)
        for part, load in zip(parts, loads, strict=True):
            share = load.size_bytes / whole_bytes if whole_bytes else 1 / len(loads)
            part.item.effort.wire_seconds += share * wire_s
            part.item.effort.startup_seconds += share * startup_s
            part.item.effort.wire_bytes += load.size_bytes if fault is None else 0
            if self._carrier.features.parallel:
                part.item.effort.streams = self._options.streams
        return fault

    def _blame(self, item: Item, fault: CamNetError, files: int, lane: Lane) -> None:
        """Give the carrier's fault to a file, unless it came through whole before."""
        if isinstance(fault, Cancelled):
            raise fault
        state = lane.destination.stat(item.target.partial)
        arrived_bytes = state.bytes if state else 0
        if arrived_bytes == item.entry.bytes and not self._carrier.segment_bytes:
            return
        # Programs say "Failure" where the store has an error number: a full disk, a lost permission.
        probe = bytes(max(0, min(_PROBE_BYTES, item.entry.bytes - arrived_bytes)))
        lane.destination.write(item.target.partial, arrived_bytes, (probe,))
        item.shares_fault = files > 1
        raise fault

    def _finish(self, item: Item, lane: Lane) -> None:
        if item.journal:
            item.move.finish(lane, item.journal, item.effort)
            item.state = "done"

    def _record(self, batch: Batch, item: Item, retries: int, start: str) -> None:
        error = str(item.fault) if item.fault else ("interrupted" if item.state == "failed" else None)
        row = LedgerRow.model_validate(
            {
                "start": start,
                "run": batch.run,
                "source": batch.source.site,
                "destination": batch.destination.site,
                "protocol": self.features.protocol,
                "path": item.entry.path,
                "file_bytes": item.entry.bytes,
                "retries": retries,
                "outcome": item.state,
                "error": error,
                "megabits_per_s": megabits_per_s(item.effort.wire_bytes, item.effort.wire_seconds),
                **asdict(item.effort),
            }
        )
        self._ledger.append(row)
