"""The mover ``streams`` for accounts that have no Python: the same connections, with a shell at their other end."""

from __future__ import annotations

from pathlib import Path

from transfer.engine import Engine
from transfer.ledger import Ledger
from transfer.local import LocalStore
from transfer.model import Endpoint, Features, TransferOptions
from transfer.store import ByteStore
from transfer.streams.channel import SshChannel
from transfer.streams.dd_store import SHELL, DdStore


class DdMover(Engine):
    """Moves batches over several OpenSSH processes to ``dd``; see `transfer.mover.Mover`.

    Its `move` raises `NoFarSideError` where the account has not the tools for that either.
    """

    def __init__(self, source: Endpoint, destination: Endpoint, options: TransferOptions, ledger: Ledger) -> None:
        super().__init__(
            Features(protocol="streams", parallel=True, resumes=True, encrypted=True),
            source,
            destination,
            open_source=lambda: self._store(source),
            open_destination=lambda: self._store(destination),
            options=options,
            ledger=ledger,
        )

    def _store(self, end: Endpoint) -> ByteStore:
        account = end.ssh
        if account is None:
            return LocalStore(Path(end.root))

        def channel() -> SshChannel:
            return SshChannel(account, stall_s=self._options.stall_s, brake=self._brake, program=SHELL)

        return DdStore(channel, end.root, f"{account.user}@{account.host}")
