"""What a carrier is given at once: groups of files, and how far each of them has come in one attempt."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field

from tasks.errors import CamNetError
from transfer.brake import Brake
from transfer.effort import Effort
from transfer.file_move import FileMove
from transfer.journal import Journal, Target
from transfer.ledger import LedgerRow, measured
from transfer.manifest import Entry
from transfer.model import Batch
from transfer.ranges import Range

_GROUP_BYTES = 256 << 20


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
    doubt
        What broke off when it was carried, although it looks whole.
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
    doubt: CamNetError | None = None

    @property
    def is_open(self) -> bool:
        """Whether something is still to be done for it."""
        return self.state == "failed" and self.fault is None

    def row(self, batch: Batch, protocol: str, retries: int, start: str) -> LedgerRow:
        """Write down the attempt."""
        return LedgerRow.model_validate(
            {
                "start": start,
                "run": batch.run,
                "source": batch.source.site,
                "destination": batch.destination.site,
                "protocol": protocol,
                "path": self.entry.path,
                "file_bytes": self.entry.bytes,
                "retries": retries,
                "outcome": self.state,
                "error": str(self.fault) if self.fault else ("interrupted" if self.state == "failed" else None),
                **measured(self.effort.wire_bytes, self.effort.wire_seconds),
                **asdict(self.effort),
            }
        )


@dataclass(frozen=True)
class Part:
    """What of an item is carried next."""

    item: Item
    journal: Journal
    range: Range


def target_of(batch: Batch, entry: Entry) -> Target:
    """Give where a file of a batch goes, and what it has to be there."""
    to = batch.destination
    return Target(to.site, to.root, batch.destination_path(entry), entry.bytes, entry.digest)


def item_of(batch: Batch, entry: Entry, *, chunk_bytes: int, arrived: Callable[[int], None], brake: Brake) -> Item:
    """Give a file of a batch that a program or service carries; see `FileMove` for the rest."""
    target, path = target_of(batch, entry), batch.source_path(entry)
    move = FileMove(
        entry, path, target, source_site=batch.source.site, chunk_bytes=chunk_bytes, arrived=arrived, brake=brake
    )
    return Item(entry, target, move)


def groups(entries: Sequence[Entry], most_files: int, *, alone_bytes: int) -> Iterator[list[Entry]]:
    """Give files larger than `alone_bytes` alone, and the others together: at most `most_files`, about 256 MiB."""
    group: list[Entry] = []
    for entry in entries:
        if entry.bytes > alone_bytes:
            yield [entry]
            continue
        group.append(entry)
        if len(group) >= most_files or sum(one.bytes for one in group) >= _GROUP_BYTES:
            yield group
            group = []
    if group:
        yield group
