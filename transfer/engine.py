"""The mover over two byte stores: what is tried again, what travels side by side, and what the ledger gets."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import asdict
from typing import Literal

from tasks.errors import CamNetError, InputError, PermanentFault, PolicyRefusal, RetryableFault
from transfer.brake import Brake, Cancelled
from transfer.cargo import target_of
from transfer.effort import Effort
from transfer.faults import fault_of
from transfer.file_move import FileMove
from transfer.journal import Journal, Target
from transfer.lane import Lane
from transfer.ledger import Ledger, LedgerRow, measured, utc_now
from transfer.manifest import Entry
from transfer.model import Batch, Endpoint, Features, Outcome, Progress, TransferOptions, failed_outcome
from transfer.policy import refuse_forbidden
from transfer.retry import retrying
from transfer.store import ByteStore

_log = logging.getLogger(__name__)


def ignore_progress(path: str, arrived_bytes: int) -> None:
    """Take progress and do nothing with it."""


class Engine:
    """Moves batches between two byte stores; see `transfer.mover.Mover` for what it promises.

    A file of several chunks travels alone, over all streams; files of one chunk travel side by side, each
    over one stream.

    Parameters
    ----------
    open_source, open_destination
        Open a new connection to either end.
    ledger
        Gets a row an attempt; the journals lie in ``journals/`` beside it.
    """

    _way_of_a_file: type[FileMove] = FileMove

    def __init__(
        self,
        features: Features,
        source: Endpoint,
        destination: Endpoint,
        *,
        open_source: Callable[[], ByteStore],
        open_destination: Callable[[], ByteStore],
        options: TransferOptions,
        ledger: Ledger,
    ) -> None:
        self.features = features
        self._ends = source, destination
        self._open_source = open_source
        self._open_destination = open_destination
        self._options = options
        self._ledger = ledger
        self._connection_is_down = threading.Event()
        self._brake = Brake(options.limit_mb_per_s)

    def cancel(self) -> None:
        """See `Mover.cancel`."""
        self._brake.stop()

    def move(self, batch: Batch, progress: Progress = ignore_progress) -> list[Outcome]:
        """See `Mover.move`."""
        if (batch.source, batch.destination) != self._ends:
            raise InputError("the batch goes between other ends than this mover", subject=batch.run)
        refuse_forbidden(batch)
        guard = threading.Lock()

        def guarded(path: str, arrived_bytes: int) -> None:
            with guard:
                progress(path, arrived_bytes)

        large = [entry for entry in batch.entries if entry.bytes > self._options.chunk_bytes]
        small = [entry for entry in batch.entries if entry.bytes <= self._options.chunk_bytes]
        self._connection_is_down.clear()
        try:
            with self._lanes() as lanes:
                outcomes = [self._move_file(batch, entry, lanes, guarded) for entry in large]
                outcomes += self._move_side_by_side(batch, small, lanes, guarded)
        finally:
            self._brake.release()
        by_path = {outcome.path: outcome for outcome in outcomes}
        return [by_path[entry.path] for entry in batch.entries]

    @contextmanager
    def _lanes(self) -> Iterator[list[Lane]]:
        lanes = [Lane(self._open_source, self._open_destination) for _ in range(self._options.streams)]
        try:
            yield lanes
        finally:
            for lane in lanes:
                lane.close()

    def _move_side_by_side(
        self, batch: Batch, entries: Sequence[Entry], lanes: Sequence[Lane], progress: Progress
    ) -> list[Outcome]:
        outcomes: list[Outcome] = []
        waiting, guard = iter(entries), threading.Lock()
        broken = threading.Event()

        def drain(lane: Lane) -> None:
            while not broken.is_set():
                with guard:
                    entry = next(waiting, None)
                if entry is None:
                    return
                try:
                    outcomes.append(self._move_file(batch, entry, [lane], progress))
                except BaseException:  # of our bugs too: the other threads must not go on alone
                    broken.set()
                    raise

        with ThreadPoolExecutor(len(lanes), thread_name_prefix="camnet-stream") as pool:
            streams = [pool.submit(drain, lane) for lane in lanes]
            try:
                for stream in streams:
                    stream.result()
            finally:
                broken.set()
        return outcomes

    def _move_file(self, batch: Batch, entry: Entry, lanes: Sequence[Lane], progress: Progress) -> Outcome:
        """Move one file, with all its attempts; only what concerns the whole batch is raised."""
        target = target_of(batch, entry)
        move = self._file_move(batch, entry, target, progress)

        def attempt(retries: int) -> Outcome:
            return self._recorded(batch, entry, retries, lanes, move, target)

        # Where the last file found no connection after all its attempts, the next one asks once.
        attempts = 1 if self._connection_is_down.is_set() else self._options.attempts
        try:
            outcome = retrying(attempt, attempts=attempts, backoff_s=self._options.backoff_s, brake=self._brake)
        except (InputError, PolicyRefusal):
            raise
        except CamNetError as fault:
            if isinstance(fault, RetryableFault) and not isinstance(fault, Cancelled):
                self._connection_is_down.set()
            return failed_outcome(entry.path, fault)
        self._connection_is_down.clear()
        return outcome

    def _file_move(self, batch: Batch, entry: Entry, target: Target, progress: Progress) -> FileMove:
        return self._way_of_a_file(
            entry,
            batch.source_path(entry),
            target,
            source_site=batch.source.site,
            chunk_bytes=self._options.chunk_bytes,
            arrived=lambda arrived_bytes: progress(entry.path, arrived_bytes),
            brake=self._brake,
        )

    def _recorded(
        self, batch: Batch, entry: Entry, retries: int, lanes: Sequence[Lane], move: FileMove, target: Target
    ) -> Outcome:
        """Make one attempt and write its row."""
        effort = Effort()
        row = LedgerRow(
            start=utc_now(),
            run=batch.run,
            source=batch.source.site,
            destination=batch.destination.site,
            protocol=self.features.protocol,
            path=entry.path,
            streams=1,
            file_bytes=entry.bytes,
            retries=retries,
            outcome="failed",
            error="interrupted",
        )
        try:
            state = self._attempt(lanes, move, target, effort)
            row = row.model_copy(update={"outcome": state, "error": None})
        except CamNetError as fault:
            row = row.model_copy(update={"error": str(fault)})
            raise
        finally:
            rate = measured(effort.wire_bytes, effort.wire_seconds)
            self._ledger.append(row.model_copy(update=asdict(effort) | rate))
        return Outcome(path=entry.path, state=state)

    def _attempt(
        self, lanes: Sequence[Lane], move: FileMove, target: Target, effort: Effort
    ) -> Literal["done", "already"]:
        """Move the file unless it is there; errors come out as those of `tasks.errors`."""
        with self._named_faults(lanes, target):
            journals = self._ledger.path.parent / "journals"
            there = move.is_there(lanes[0], effort)
            if there and not (journals / target.journal_name()).exists():
                return "already"
            with closing(Journal(journals, target, flushed=target.bytes > self._options.chunk_bytes)) as journal:
                try:
                    if not there:
                        move.attempt(lanes, journal, effort)
                except Exception as problem:
                    if isinstance(_fault(problem, target), PermanentFault):
                        self._clean(move, lanes[0], journal, target)
                    raise
                if there:
                    move.clean(lanes[0], journal)
            return "already" if there else "done"

    def _clean(self, move: FileMove, lane: Lane, journal: Journal, target: Target) -> None:
        """Take away what a file leaves that cannot be moved; the first error is the one that matters."""
        try:
            move.clean(lane, journal)
        except Exception as problem:
            if _fault(problem, target) is None:
                raise
            _log.warning("%s: %s could not be removed (%s)", target.site, target.partial, problem)

    @contextmanager
    def _named_faults(self, lanes: Sequence[Lane], target: Target) -> Iterator[None]:
        try:
            yield
        except Exception as problem:
            fault = _fault(problem, target)
            if fault is None:
                raise
            if isinstance(fault, RetryableFault):
                for lane in lanes:
                    lane.close()
            raise fault from problem


def _fault(problem: Exception, target: Target) -> CamNetError | None:
    return fault_of(problem, subject=f"{target.site}:{target.path}")
