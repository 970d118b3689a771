"""The mover around a carrier: it moves files in groups, verifies each at the destination, and publishes it."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing

from tasks.errors import CamNetError, InputError, PolicyRefusal, RetryableFault
from transfer.brake import Brake, Cancelled
from transfer.cargo import Item, Part, groups, item_of
from transfer.carrier import Carrier, Load, Watch
from transfer.engine import ignore_progress
from transfer.faults import fault_of
from transfer.journal import Journal
from transfer.lane import Lane
from transfer.ledger import Ledger, utc_now
from transfer.manifest import Entry
from transfer.model import Batch, Endpoint, Features, Outcome, Progress, TransferOptions, failed_outcome
from transfer.policy import refuse_forbidden
from transfer.program import UnclearFault
from transfer.ranges import total_bytes
from transfer.retry import pause_before_next
from transfer.store import ByteStore

_log = logging.getLogger(__name__)
_PROBE_BYTES = 4 << 20  # more than programs take back of a file when a write fails


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
        self._unreachable: CamNetError | None = None

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
        self._unreachable = None
        try:
            with closing(Lane(*self._open)) as lane, closing(self._carrier):
                for group in groups(batch.entries, self._carrier.most_files, alone_bytes=self._options.chunk_bytes):
                    outcomes.update(self._move_group(batch, group, lane, progress))
        finally:
            self._brake.release()
        return [outcomes[entry.path] for entry in batch.entries]

    def _move_group(self, batch: Batch, entries: Sequence[Entry], lane: Lane, progress: Progress) -> dict[str, Outcome]:
        """Move a group with all attempts; only what concerns the whole batch is raised."""
        outcomes: dict[str, Outcome] = {}
        items = [self._item(batch, entry, progress) for entry in entries]
        # Where the last group found no connection after all its attempts, the next one asks once.
        attempts = 1 if self._unreachable else self._options.attempts
        for k in range(attempts):
            self._attempt(batch, items, lane, k)
            again = []
            for item in items:
                path, fault = item.entry.path, item.fault
                passes = isinstance(fault, RetryableFault) and not self._brake.is_stopped
                if fault is None:
                    outcomes[path] = Outcome.model_validate({"path": path, "state": item.state})
                elif passes and k + 1 < attempts:
                    again.append(Item(item.entry, item.target, item.move))
                elif item.shares_fault and not isinstance(fault, RetryableFault):
                    # One bad file must not take the others with it: from here on each goes alone.
                    outcomes |= self._move_group(batch, [item.entry], lane, progress)
                else:
                    outcomes[path] = failed_outcome(path, fault)
            if not again:
                break
            items = again
            pause_before_next(k, self._options.backoff_s, self._brake)
        return outcomes

    def _item(self, batch: Batch, entry: Entry, progress: Progress) -> Item:
        return item_of(
            batch,
            entry,
            chunk_bytes=self._carrier.segment_bytes or max(1, entry.bytes),
            arrived=lambda arrived_bytes: progress(entry.path, arrived_bytes),
            brake=self._brake,
        )

    def _attempt(self, batch: Batch, items: Sequence[Item], lane: Lane, retries: int) -> None:
        """Bring every item one attempt further, and write its row."""
        start = utc_now()
        self._unreachable = None
        try:
            with ExitStack() as stack:
                for item in items:
                    self._guarded(item, lane, lambda item=item: self._prepare(item, lane, stack))  # type: ignore[misc]  # mypy cannot see the default
                self._carry(batch, items, lane)
                for item in items:
                    self._guarded(item, lane, lambda item=item: self._finish(item, lane))  # type: ignore[misc]  # as above
        finally:
            for item in items:
                self._ledger.append(item.row(batch, self.features.protocol, retries, start))

    def _guarded(self, item: Item, lane: Lane, step: Callable[[], None]) -> None:
        """Take one step of one item; what it cannot do becomes its fault."""
        if not item.is_open:
            return
        if self._unreachable:
            item.fault = self._unreachable
            return
        try:
            self._brake.wait(0)
            lane.connect()
            step()
        except (InputError, PolicyRefusal):
            raise
        except Exception as problem:
            fault = fault_of(problem, subject=f"{item.target.site}:{item.target.path}")
            if fault is None:
                raise
            item.fault = fault
            if not isinstance(fault, RetryableFault):
                self._clean(item, lane)
            elif fault is not problem:
                self._disconnect(lane, fault)

    def _disconnect(self, lane: Lane, fault: CamNetError) -> None:
        """Close what is broken; when it could not even be opened, the other files need not try."""
        if not lane.is_connected:
            self._unreachable = fault
        lane.close()

    def _clean(self, item: Item, lane: Lane) -> None:
        """Take away what a file leaves that cannot be moved; the first error is the one that matters."""
        if not item.journal:
            return
        try:
            item.move.clean(lane, item.journal)
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
        flushed = item.entry.bytes > self._options.chunk_bytes
        item.journal = stack.enter_context(closing(Journal(journals, item.target, flushed=flushed)))
        if there:
            item.move.clean(lane, item.journal)
            item.state = "already"
            return
        item.todo = item.move.prepare(lane, item.journal, continues=self._carrier.continues_partial)

    def _carry(self, batch: Batch, items: Sequence[Item], lane: Lane) -> None:
        """Carry the parts that are missing: the first part of every file, then the second, and so on."""
        while parts := [Part(item, item.journal, item.todo[0]) for item in items if item.journal and item.todo]:
            fault = self._carry_parts(batch, parts, lane)
            for part in parts:
                if fault is None:
                    start, length = part.range
                    whole = (0, start + length) if self._carrier.continues_partial else part.range
                    part.item.move.arrived(part.journal.arrive(whole))
                    part.item.todo.pop(0)
            if fault:
                break
        else:
            return
        for part in parts:
            self._guarded(part.item, lane, lambda part=part: self._blame(part.item, fault, len(parts), lane))  # type: ignore[misc]  # mypy cannot see the default

    def _carry_parts(self, batch: Batch, parts: Sequence[Part], lane: Lane) -> CamNetError | None:
        """Let the carrier work; give its fault, and note the seconds."""
        loads = [self._load(batch, part) for part in parts]
        before_bytes = {part.item.target.partial: self._before_bytes(part) for part in parts}
        moves = {part.item.target.partial: part.item.move for part in parts}

        def tell(partial_path: str, arrived_bytes: int) -> None:
            moves[partial_path].arrived(before_bytes[partial_path] + arrived_bytes)

        watch = Watch(lambda: lane.destination, loads, tell)
        started_s, startup_s, fault = time.monotonic(), 0.0, None
        try:
            for part in parts:
                if part.range[0]:  # programs follow links, and the tree may have changed since the part before
                    lane.destination.stat(part.item.target.partial)
            startup_s = self._carrier.carry(loads, watch, self._brake)
        except (InputError, PolicyRefusal):
            for part in parts:
                self._clean(part.item, lane)
            raise
        except Exception as problem:  # the control connection breaks while the carrier is watched
            fault = fault_of(problem, subject=f"{batch.source.site} → {batch.destination.site}")
            if fault is None:
                raise
            if fault is not problem:
                self._disconnect(lane, fault)
        wire_s = max(0.0, time.monotonic() - started_s - startup_s)
        whole_bytes = sum(load.size_bytes for load in loads)
        for part, load in zip(parts, loads, strict=True):
            share = load.size_bytes / whole_bytes if whole_bytes else 1 / len(loads)
            part.item.effort.wire_seconds += share * wire_s
            part.item.effort.startup_seconds += share * startup_s
            part.item.effort.wire_bytes += load.size_bytes if fault is None else watch.arrived_bytes(load.partial_path)
            if self._carrier.features.parallel:
                part.item.effort.streams = self._options.streams
        return fault

    def _before_bytes(self, part: Part) -> int:
        return part.range[0] if self._carrier.continues_partial else total_bytes(part.journal.arrived)

    def _load(self, batch: Batch, part: Part) -> Load:
        again_bytes = part.journal.begin(part.range)
        if not (self._carrier.continues_partial and part.range[0]):
            part.item.effort.bytes_resent += again_bytes
        source = batch.source_path(part.item.entry)
        return Load(source, part.item.target.partial, part.item.entry.bytes, *part.range)

    def _blame(self, item: Item, fault: CamNetError, files: int, lane: Lane) -> None:
        """Give the carrier's fault to a file, unless it looks whole: what it has decides then."""
        if isinstance(fault, Cancelled):
            raise fault
        item.shares_fault = files > 1
        state = lane.destination.stat(item.target.partial)
        arrived_bytes = state.bytes if state else 0
        if arrived_bytes == item.entry.bytes and not self._carrier.segment_bytes:
            item.doubt = fault
            return
        self._probe(item, lane, fault, arrived_bytes)
        raise fault

    def _finish(self, item: Item, lane: Lane) -> None:
        if not item.journal:
            return
        try:
            item.move.finish(lane, item.journal, item.effort, doubt=item.doubt)
        except UnclearFault as fault:
            # It only looked whole: scp gives a file its full length also when the disk was full.
            self._probe(item, lane, fault, item.entry.bytes)
            raise
        item.state = "done"

    def _probe(self, item: Item, lane: Lane, fault: CamNetError, arrived_bytes: int) -> None:
        """Find out from the store, which has error numbers, what a program only calls "Failure": a full disk."""
        if isinstance(fault, UnclearFault) and not self._carrier.continues_partial:
            start = min(arrived_bytes, max(0, item.entry.bytes - _PROBE_BYTES))
            lane.destination.write(item.target.partial, start, (bytes(min(_PROBE_BYTES, item.entry.bytes - start)),))
