"""The store of an endpoint: a folder of this machine, one of an SSH account, or a Globus collection."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

from transfer.globus_login import transfer_client
from transfer.globus_store import GlobusStore
from transfer.local import LocalStore
from transfer.model import Endpoint, TransferOptions
from transfer.sftp import SftpStore
from transfer.store import ByteStore


def open_store(end: Endpoint, options: TransferOptions) -> ByteStore:
    """Open the store; a remote one is connected at once (see `SftpStore` for what it raises)."""
    if end.ssh:
        return SftpStore(end.ssh, end.root, stall_s=options.stall_s)
    if end.globus and end.globus.only:
        with ExitStack() as stack:
            login = transfer_client(end.globus.credentials, [end.globus], timeout_s=options.stall_s)
            client = stack.enter_context(login)
            close = stack.pop_all().close
        return GlobusStore(client, end.globus, end.site, timeout_s=options.stall_s, close=close)
    return LocalStore(Path(end.root))
