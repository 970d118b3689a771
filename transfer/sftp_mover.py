"""The mover ``sftp``: to and from accounts that need run no program of ours."""

from __future__ import annotations

from collections.abc import Sequence

from transfer.cargo import Item
from transfer.lane import Lane
from transfer.ledger import Ledger
from transfer.model import Batch, Endpoint, Features, TransferOptions
from transfer.open_store import open_store
from transfer.sftp_file import SftpFile
from transfer.sftp_small import SftpSmallFiles
from transfer.side_by_side import SideBySideEngine


class SftpMover(SideBySideEngine):
    """Moves batches over several SFTP connections; see `transfer.mover.Mover`."""

    _way_of_a_file = SftpFile

    def __init__(self, source: Endpoint, destination: Endpoint, options: TransferOptions, ledger: Ledger) -> None:
        super().__init__(
            Features(protocol="sftp", parallel=True, resumes=True, encrypted=True),
            source,
            destination,
            open_source=lambda: open_store(source, options),
            open_destination=lambda: open_store(destination, options),
            options=options,
            ledger=ledger,
        )

    def _attempt_together(self, batch: Batch, items: Sequence[Item], lanes: Sequence[Lane]) -> None:
        def source_path(item: Item) -> str:
            return batch.source_path(item.entry)

        SftpSmallFiles(lanes, source_path, self._ledger.path.parent / "journals", self._brake).attempt(items)
