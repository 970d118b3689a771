"""The mover ``streams``: our own wire between two machines, of which at least one is reached over SSH."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from tasks.errors import PermanentFault, RetryableFault
from transfer.cargo import Item
from transfer.engine import ignore_progress
from transfer.lane import Lane
from transfer.ledger import Ledger
from transfer.local import LocalStore
from transfer.model import Batch, Endpoint, Features, Outcome, Progress, TransferOptions
from transfer.pieced_file import FEWEST_CONNECTIONS
from transfer.side_by_side import SideBySideEngine
from transfer.store import ByteStore
from transfer.streams.channel import NoFarSideError
from transfer.streams.dd_mover import DdMover
from transfer.streams.far_store import FarStore
from transfer.streams.pieces import StreamedFile
from transfer.streams.small_files import LARGEST_SMALL_BYTES, SmallFiles
from transfer.streams.wires import Wires

if TYPE_CHECKING:
    from transfer.mover import Mover

_log = logging.getLogger(__name__)


class StreamsMover(SideBySideEngine):
    """Moves batches over several connections to a small script of ours; see `transfer.mover.Mover`.

    Parameters
    ----------
    fallback
        Makes the mover for accounts that run neither Python nor a shell with GNU coreutils.
    """

    _way_of_a_file = StreamedFile
    _largest_small_bytes = LARGEST_SMALL_BYTES

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
        self._early = FEWEST_CONNECTIONS

    def move(self, batch: Batch, progress: Progress = ignore_progress) -> list[Outcome]:
        """See `Mover.move`."""
        has_large = any(entry.bytes > self._options.chunk_bytes for entry in batch.entries)
        self._early = FEWEST_CONNECTIONS if has_large else 1
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

    def _attempt_together(self, batch: Batch, items: Sequence[Item], lanes: Sequence[Lane]) -> None:
        roots = (batch.source.root, batch.destination.root)
        small = SmallFiles(
            lanes,
            roots,
            lambda item: batch.source_path(item.entry),
            self._ledger.path.parent / "journals",
            self._brake,
        )
        small.attempt(items)
