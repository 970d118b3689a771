"""The mover ``sftp``: to and from accounts that need run no program of ours."""

from __future__ import annotations

from transfer.engine import Engine
from transfer.ledger import Ledger
from transfer.model import Endpoint, Features, TransferOptions
from transfer.open_store import open_store
from transfer.sftp_file import SftpFile


class SftpMover(Engine):
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
