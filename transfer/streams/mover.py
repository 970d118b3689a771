"""The mover ``streams``: our own wire between two machines, of which at least one is reached over SSH."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from tasks.errors import RetryableFault
from transfer.engine import Engine, ignore_progress
from transfer.lane import Lane
from transfer.ledger import Ledger
from transfer.local import LocalStore
from transfer.model import Batch, Endpoint, Features, Outcome, Progress, TransferOptions
from transfer.store import ByteStore
from transfer.streams.channel import NoFarSideError, SshChannel
from transfer.streams.far_store import FarStore
from transfer.streams.pieces import FEWEST_STREAMS, StreamedFile

if TYPE_CHECKING:
    from transfer.mover import Mover

_log = logging.getLogger(__name__)


class StreamsMover(Engine):
    """Moves batches over several connections to a small script of ours; see `transfer.mover.Mover`.

    Parameters
    ----------
    fallback
        Makes the mover for accounts that run no Python.
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
        self._make_fallback = fallback
        self._fallback: Mover | None = None

    def move(self, batch: Batch, progress: Progress = ignore_progress) -> list[Outcome]:
        """See `Mover.move`."""
        try:
            return super().move(batch, progress)
        except NoFarSideError as reason:
            _log.warning("%s It is reached over SFTP instead.", reason)
        self._fallback = self._make_fallback()
        return self._fallback.move(batch, progress)

    def cancel(self) -> None:
        """See `Mover.cancel`."""
        super().cancel()
        if self._fallback:
            self._fallback.cancel()

    @contextmanager
    def _lanes(self) -> Iterator[list[Lane]]:
        """Have the streams that every link is worth connect while the destination is looked at."""
        with super()._lanes() as lanes:
            for lane in lanes[:FEWEST_STREAMS]:
                with suppress(RetryableFault):  # whoever uses the lane finds it again, and tries again
                    lane.connect()
            yield lanes

    def _store(self, end: Endpoint) -> ByteStore:
        account = end.ssh
        if account is None:
            return LocalStore(Path(end.root))
        stall_s = self._options.stall_s
        return FarStore(
            lambda: SshChannel(account, stall_s=stall_s, brake=self._brake),
            end.root,
            f"{account.user}@{account.host}",
        )

    def _move_side_by_side(
        self, batch: Batch, entries: Sequence[Entry], lanes: Sequence[Lane], progress: Progress
    ) -> list[Outcome]:
        """Move small files back to back, and alone what does not go that way."""
        framed = [self._item(batch, entry, progress) for entry in entries if entry.bytes <= LARGEST_SMALL_BYTES]
        outcomes: dict[str, Outcome] = {}
        lanes = lanes[:FEWEST_STREAMS] if len(framed) > 1 else lanes
        for k in range(self._options.attempts if framed else 0):
            start = utc_now()
            self._attempt_small(batch, framed, lanes)
            for item in framed:
                if item.fault or not item.is_open:
                    self._ledger.append(row_of(item, batch, self.features.protocol, k, start))
                if item.fault:
                    outcomes[item.entry.path] = failed_outcome(item.entry.path, item.fault)
                elif not item.is_open:
                    outcomes[item.entry.path] = Outcome.model_validate({"path": item.entry.path, "state": item.state})
            framed = [Item(item.entry, item.target, item.move) for item in framed if item.fault]
            if not framed or self._brake.is_stopped:
                break
            if k + 1 < self._options.attempts:
                ...
        alone = [entry for entry in entries if entry.path not in outcomes]
        return [*outcomes.values(), *super()._move_side_by_side(batch, alone, lanes, progress)]
