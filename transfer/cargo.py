"""One file of a carrier's group, in one attempt."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field

from tasks.errors import CamNetError
from transfer.file_move import Effort, FileMove
from transfer.journal import Journal, Target
from transfer.ledger import LedgerRow, megabits_per_s
from transfer.manifest import Entry
from transfer.model import Batch
from transfer.ranges import Range


@dataclass
class Item:
    """A file and how far it has come.

    Attributes
    ----------
    journal, todo
        Open journal and the parts that are missing, once the file was looked at and has to be carried.
    state
        ``failed`` until it is ``done`` or ``already`` there.
    shares_fault
        The fault is that of the whole group; alone the file may come through.
    """

    entry: Entry
    target: Target
    move: FileMove
    effort: Effort = field(default_factory=Effort)
    journal: Journal | None = None
    todo: list[Range] = field(default_factory=list)
    state: str = "failed"
    fault: CamNetError | None = None
    shares_fault: bool = False

    @property
    def is_open(self) -> bool:
        """Whether something is still to be done for it."""
        return self.state == "failed" and self.fault is None


@dataclass(frozen=True)
class Part:
    """What of an item is carried next."""

    item: Item
    journal: Journal
    range: Range


def item_row(batch: Batch, item: Item, *, protocol: str, retries: int, start: str) -> LedgerRow:
    """Give the row of the ledger for one attempt at an item."""
    error = str(item.fault) if item.fault else ("interrupted" if item.state == "failed" else None)
    return LedgerRow.model_validate(
        {
            "start": start,
            "run": batch.run,
            "source": batch.source.site,
            "destination": batch.destination.site,
            "protocol": protocol,
            "path": item.entry.path,
            "file_bytes": item.entry.bytes,
            "retries": retries,
            "outcome": item.state,
            "error": error,
            "megabits_per_s": megabits_per_s(item.effort.wire_bytes, item.effort.wire_seconds),
            **asdict(item.effort),
        }
    )
