"""The mover ``streams``: our own wire between two machines, of which at least one is reached over SSH."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from tasks.errors import PermanentFault, RetryableFault
from transfer.brake import Cancelled
from transfer.cargo import Item
from transfer.engine import Engine, ignore_progress
from transfer.journal import Target
from transfer.lane import Lane
from transfer.ledger import Ledger, utc_now
from transfer.local import LocalStore
from transfer.manifest import Entry
from transfer.model import Batch, Endpoint, Features, Outcome, Progress, TransferOptions, failed_outcome
from transfer.retry import pause_s
from transfer.store import ByteStore
from transfer.streams.channel import NoFarSideError
from transfer.streams.dd_mover import DdMover
from transfer.streams.far_store import FarStore
from transfer.streams.pieces import FEWEST_STREAMS, StreamedFile
from transfer.streams.small_files import LARGEST_SMALL_BYTES, SmallFiles
from transfer.streams.wires import Wires

if TYPE_CHECKING:
    from transfer.mover import Mover

_log = logging.getLogger(__name__)


class StreamsMover(Engine):
    """Moves batches over several connections to a small script of ours; see `transfer.mover.Mover`.

    Parameters
    ----------
    fallback
        Makes the mover for accounts that run neither Python nor a shell with GNU coreutils.
    """

    _way_of_a_file = StreamedFile

    def __init__(
        self,
        source: Endpoint,
        destination: Endpoint,
        options: TransferOptions,
        ledger: Ledger,
        *,
        fallback: Callable[[], Mover],
    ) -> None:
        super().__init__(
            Features(protocol="streams", parallel=True, resumes=True, encrypted=True),
            source,
            destination,
            open_source=lambda: self._store(source),
            open_destination=lambda: self._store(destination),
            options=options,
            ledger=ledger,
        )
        self._wires = Wires(options.stall_s, self._brake)
        self._make_fallbacks = {
            "Its shell and dd carry the files instead": lambda: DdMover(source, destination, options, ledger),
            "It is reached over SFTP instead": fallback,
        }
        self._fallback: Mover | None = None
        self._early = FEWEST_STREAMS

    def move(self, batch: Batch, progress: Progress = ignore_progress) -> list[Outcome]:
        """See `Mover.move`."""
        has_large = any(entry.bytes > self._options.chunk_bytes for entry in batch.entries)
        self._early = FEWEST_STREAMS if has_large else 1
        try:
            return super().move(batch, progress)
        except NoFarSideError as error:
            reason = error
        for what_then, make in self._make_fallbacks.items():
            _log.warning("%s %s.", reason, what_then)
            self._fallback = make()
            try:
                return self._fallback.move(batch, progress)
            except NoFarSideError as error:
                reason = error
        raise reason

    def cancel(self) -> None:
        """See `Mover.cancel`."""
        super().cancel()
        if self._fallback:
            self._fallback.cancel()

    @contextmanager
    def _lanes(self) -> Iterator[list[Lane]]:
        """Have the streams that every link is worth connect while the destination is looked at."""
        with closing(self._wires), super()._lanes() as lanes:
            for lane in lanes[: self._early]:
                # Whoever uses the lane finds it again, and tries again or tells it.
                with suppress(RetryableFault, PermanentFault, OSError, EOFError):
                    lane.connect()
            yield lanes

    def _store(self, end: Endpoint) -> ByteStore:
        account = end.ssh
        if account is None:
            return LocalStore(Path(end.root))
        return FarStore(lambda: self._wires.open(account), end.root, f"{account.user}@{account.host}")

    def _move_side_by_side(
        self, batch: Batch, entries: Sequence[Entry], lanes: Sequence[Lane], progress: Progress
    ) -> list[Outcome]:
        """Move small files back to back; what does not go that way is moved alone, which shows what is wrong."""
        items = [self._item(batch, entry, progress) for entry in entries if entry.bytes <= LARGEST_SMALL_BYTES]
        outcomes: dict[str, Outcome] = {}
        for k in range(self._options.attempts):
            items = self._attempt_small(batch, items, k, lanes, outcomes) if items else []
            if not items or self._brake.is_stopped or k + 1 == self._options.attempts:
                break
            _log.warning("%d small files are tried again (%d of %d).", len(items), k + 2, self._options.attempts)
            with suppress(Cancelled):
                self._brake.wait(pause_s(k, self._options.backoff_s))
        alone = [entry for entry in entries if entry.path not in outcomes]
        return [*outcomes.values(), *(super()._move_side_by_side(batch, alone, lanes, progress) if alone else [])]

    def _attempt_small(
        self, batch: Batch, items: Sequence[Item], retries: int, lanes: Sequence[Lane], outcomes: dict[str, Outcome]
    ) -> list[Item]:
        """Make one attempt; fill in outcomes, and return what may be tried again."""
        start = utc_now()
        roots = (batch.source.root, batch.destination.root)
        small = SmallFiles(
            lanes,
            roots,
            lambda item: batch.source_path(item.entry),
            self._ledger.path.parent / "journals",
            self._brake,
        )
        small.attempt(items)
        for item in items:
            path = item.entry.path
            if item.fault:
                outcomes[path] = failed_outcome(path, item.fault)
            elif not item.is_open:
                outcomes[path] = Outcome.model_validate({"path": path, "state": item.state})
            if path in outcomes:
                self._ledger.append(item.row(batch, self.features.protocol, retries, start))
        return [Item(item.entry, item.target, item.move) for item in items if isinstance(item.fault, RetryableFault)]

    def _item(self, batch: Batch, entry: Entry, progress: Progress) -> Item:
        path = batch.destination_path(entry)
        target = Target(batch.destination.site, batch.destination.root, path, entry.bytes, entry.digest)
        return Item(entry, target, self._file_move(batch, entry, target, progress))
