"""The part of a mover that moves many small files together, and alone what does not go that way."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Sequence

from tasks.errors import RetryableFault
from transfer.cargo import Item, target_of
from transfer.engine import Engine
from transfer.lane import Lane
from transfer.ledger import utc_now
from transfer.manifest import Entry
from transfer.model import Batch, Outcome, Progress, failed_outcome
from transfer.retry import pause_before_next

_log = logging.getLogger(__name__)


class SideBySideEngine(Engine, ABC):
    """An `Engine` that first tries to move small files together.

    What is still open after that is moved alone, which shows what is wrong with it.
    """

    _largest_small_bytes = 4 << 20

    @abstractmethod
    def _attempt_together(self, batch: Batch, items: Sequence[Item], lanes: Sequence[Lane]) -> None:
        """Bring every item as far as it goes; a connection that breaks is the fault of what was on it."""

    def _move_side_by_side(
        self, batch: Batch, entries: Sequence[Entry], lanes: Sequence[Lane], progress: Progress
    ) -> list[Outcome]:
        items = [self._item(batch, entry, progress) for entry in entries if entry.bytes <= self._largest_small_bytes]
        outcomes: dict[str, Outcome] = {}
        for k in range(self._options.attempts):
            items = self._attempt_small(batch, items, k, lanes, outcomes) if items else []
            if not items or self._brake.is_stopped or k + 1 == self._options.attempts:
                break
            _log.warning("%d small files are tried again (%d of %d).", len(items), k + 2, self._options.attempts)
            pause_before_next(k, self._options.backoff_s, self._brake)
        alone = [entry for entry in entries if entry.path not in outcomes]
        return [*outcomes.values(), *(super()._move_side_by_side(batch, alone, lanes, progress) if alone else [])]

    def _attempt_small(
        self, batch: Batch, items: Sequence[Item], retries: int, lanes: Sequence[Lane], outcomes: dict[str, Outcome]
    ) -> list[Item]:
        """Make one attempt; fill in outcomes, and return what may be tried again."""
        start = utc_now()
        self._attempt_together(batch, items, lanes)
        for item in items:
            path = item.entry.path
            outcomes.pop(path, None)  # of the attempt before; what is left open now is moved alone
            if item.fault:
                outcomes[path] = failed_outcome(path, item.fault)
            elif not item.is_open:
                outcomes[path] = Outcome.model_validate({"path": path, "state": item.state})
            if path in outcomes:
                self._ledger.append(item.row(batch, self.features.protocol, retries, start))
        return [Item(item.entry, item.target, item.move) for item in items if isinstance(item.fault, RetryableFault)]

    def _item(self, batch: Batch, entry: Entry, progress: Progress) -> Item:
        target = target_of(batch, entry)
        return Item(entry, target, self._file_move(batch, entry, target, progress))
