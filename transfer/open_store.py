"""The store of an endpoint: a folder of this machine, or one of an SSH account."""

from __future__ import annotations

from pathlib import Path

from transfer.local import LocalStore
from transfer.model import Endpoint, TransferOptions
from transfer.sftp import SftpStore
from transfer.store import ByteStore


def open_store(end: Endpoint, options: TransferOptions) -> ByteStore:
    """Open the store; a remote one is connected at once (see `SftpStore` for what it raises)."""
    if end.ssh:
        return SftpStore(end.ssh, end.root, stall_s=options.stall_s)
    return LocalStore(Path(end.root))
