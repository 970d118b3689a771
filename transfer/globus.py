"""The mover over Globus: one task of the Transfer service carries many files, and outlives this process."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tasks.errors import InputError, RetryableFault
from transfer.brake import Brake
from transfer.cargo import Item, item_of
from transfer.engine import ignore_progress
from transfer.globus_record import GlobusRecord, records_to
from transfer.globus_run import GlobusRun
from transfer.globus_service import GlobusService
from transfer.globus_task import write_record
from transfer.lane import Lane
from transfer.ledger import Ledger, utc_now
from transfer.manifest import Entry
from transfer.model import Batch, Endpoint, Features, Outcome, Progress, TransferOptions, failed_outcome
from transfer.policy import refuse_forbidden
from transfer.retry import pause_before_next

_MOST_FILES = 10_000
_MOST_FRUITLESS = 6
"""Tasks in a row that bring no file, after which the rest of a failed task is not tried any more."""


class GlobusMover:
    """Moves batches with tasks of the Globus Transfer service; see `transfer.mover.Mover` for what it promises.

    The service carries up to 10,000 files a task and checks each against the manifest's sha256 at both ends. Before
    a task is submitted its submission id is written down beside the ledger, so that a process that dies never makes
    a second one: the next call follows the task to its end. The ends are looked at, and files renamed, through the
    SSH account or the folder of this machine where there is one, else through the service.

    Raises
    ------
    InputError
        An end has no collection, the two name different logins, or a limit is asked for.
    """

    def __init__(self, source: Endpoint, destination: Endpoint, options: TransferOptions, ledger: Ledger) -> None:
        if options.limit_mb_per_s is not None:
            raise InputError("the rate of Globus cannot be limited from here", remedy="leave out limit_mb_per_s")
        self._ends = source, destination
        self._options = options
        self._ledger = ledger
        self._service = GlobusService(source, destination, options, ledger.path.parent / "journals")
        self._brake = Brake()
        self._begun: set[str] = set()
        self._fruitless = 0

    @property
    def features(self) -> Features:
        """See `Mover.features`. How many connections a file takes is the service's business, and not told."""
        looks = not self._service.destination.only
        return Features(protocol="globus", parallel=False, resumes=True, encrypted=True, reads_destination=looks)

    def cancel(self) -> None:
        """See `Mover.cancel`; the task is cancelled at the service too."""
        self._brake.stop()

    def move(self, batch: Batch, progress: Progress = ignore_progress) -> list[Outcome]:
        """See `Mover.move`."""
        if (batch.source, batch.destination) != self._ends:
            raise InputError("the batch goes between other ends than this mover", subject=batch.run)
        refuse_forbidden(batch)
        outcomes: dict[str, Outcome] = {}
        self._begun.clear()
        self._fruitless = 0
        lane = Lane(self._service.open_source, self._service.open_destination)
        run = GlobusRun(batch, self._service, lane, self._brake, self._options.stall_s)
        try:
            for first in range(0, len(batch.entries), _MOST_FILES):
                items = [self._item(batch, entry, progress) for entry in batch.entries[first : first + _MOST_FILES]]
                outcomes |= self._move_together(run, items)
        finally:
            lane.close()
            self._service.close()
        self._brake.release()
        return [outcomes[entry.path] for entry in batch.entries]

    def _move_together(self, run: GlobusRun, items: Sequence[Item]) -> dict[str, Outcome]:
        """Move files with all attempts; only what concerns the whole batch is raised."""
        outcomes: dict[str, Outcome] = {}
        for k in range(self._options.attempts):
            self._attempt(run, items, k)
            again: list[Item] = []
            suspects: list[Item] = []
            for item in items:
                passes = isinstance(item.fault, RetryableFault) and not self._brake.is_stopped
                if item.fault is None:
                    outcomes[item.entry.path] = Outcome.model_validate({"path": item.entry.path, "state": item.state})
                elif passes and k + 1 < self._options.attempts:
                    again.append(Item(item.entry, item.target, item.move))
                elif item.shares_fault and not self._brake.is_stopped:
                    suspects.append(item)
                else:
                    outcomes[item.entry.path] = failed_outcome(item.entry.path, item.fault)
            outcomes |= self._halved(run, suspects, is_fruitless=all(item.state != "done" for item in items))
            if not again:
                break
            items = again
            pause_before_next(k, self._options.backoff_s, self._brake)
        return outcomes

    def _halved(self, run: GlobusRun, suspects: Sequence[Item], *, is_fruitless: bool) -> dict[str, Outcome]:
        """Find the file that is to blame for a task that failed as a whole.

        The service goes through a task in order, so that the file is mostly the first that did not come through:
        the second half goes first. Where one task after the other brings nothing, no single file is to blame.
        """
        if not is_fruitless:
            self._fruitless = 0
        elif suspects:
            self._fruitless += 1
        outcomes: dict[str, Outcome] = {}
        middle = (len(suspects) + 1) // 2
        for half in filter(None, (suspects[middle:], suspects[:middle])):
            if self._fruitless < _MOST_FRUITLESS:
                outcomes |= self._move_together(run, [Item(item.entry, item.target, item.move) for item in half])
            else:
                outcomes |= {one.entry.path: failed_outcome(one.entry.path, one.fault) for one in half if one.fault}
        return outcomes

    def _item(self, batch: Batch, entry: Entry, progress: Progress) -> Item:
        return item_of(
            batch,
            entry,
            chunk_bytes=max(1, entry.bytes),
            arrived=_growing(lambda arrived_bytes: progress(entry.path, arrived_bytes)),
            brake=self._brake,
        )

    def _attempt(self, run: GlobusRun, items: Sequence[Item], retries: int) -> None:
        """Bring every item one attempt further, and write its row."""
        start = utc_now()

        def look(item: Item) -> None:
            if item.move.is_there(run.lane, item.effort):
                item.state = "already"
            else:
                item.move.check_source(run.lane)

        try:
            run.each(items, look)
            self._go_on(run, items)
            waiting = [item for item in items if item.is_open]
            if waiting:
                self._begin(run, waiting)
        finally:
            for item in items:
                self._ledger.append(item.row(run.batch, "globus", retries, start))

    def _go_on(self, run: GlobusRun, items: Sequence[Item]) -> None:
        """Follow the tasks that an earlier call or attempt has left and that carry some of these files.

        Files of a task that a living process follows fail for now. A task that brings nothing that is still wanted,
        only files that are there or other versions, is cancelled.
        """
        wanted = {(item.target.path, item.target.digest): item for item in items if item.is_open}
        paths = {item.target.path for item in items}
        for path, files in records_to(self._service.folder, items[0].target):
            mine = [wanted[key] for key in files if key in wanted and wanted[key].is_open]
            if not mine and not all(name in paths for name, _ in files):
                continue  # it is another batch's
            record = GlobusRecord.take(path)
            if record is None:
                busy = RetryableFault("another process is moving this file", subject=path, remedy="wait for it")
                for item in mine:
                    item.fault = busy
            elif mine:
                self._begun.update(item.target.path for item in mine)
                run.carry(record, mine, is_new=False)
            else:
                run.abandon(record)

    def _begin(self, run: GlobusRun, items: Sequence[Item]) -> None:
        """Write a new record and run its task."""
        batch, records = run.batch, []

        def write() -> None:
            run.service.make_folders([item.target.path for item in items])
            records.append(
                write_record(
                    run.service.client,
                    run.service.folder,
                    items,
                    [batch.source_path(item.entry) for item in items],
                    (run.service.source, run.service.destination),
                    f"CamNet {batch.run}: {batch.source.site} to {batch.destination.site}",
                )
            )

        run.together(items, write)
        for record in records:
            for item in items:
                item.effort.bytes_resent += item.entry.bytes if item.target.path in self._begun else 0
                self._begun.add(item.target.path)
            run.carry(record, items, is_new=True)


def _growing(tell: Callable[[int], None]) -> Callable[[int], None]:
    """Pass on only what is more than before: a new task counts from zero again."""
    most_bytes = -1

    def told(arrived_bytes: int) -> None:
        nonlocal most_bytes
        if arrived_bytes > most_bytes:
            most_bytes = arrived_bytes
            tell(arrived_bytes)

    return told
