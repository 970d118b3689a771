"""The Globus Transfer service as one mover sees it: a client that is opened when needed, and both ends."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import globus_sdk

from tasks.errors import InputError
from transfer.globus_login import transfer_client
from transfer.globus_memory import GlobusMemory
from transfer.globus_store import GlobusStore
from transfer.journal import place_name
from transfer.model import Endpoint, TransferOptions
from transfer.open_store import open_store
from transfer.servers import GlobusCollection
from transfer.store import ByteStore


class GlobusService:
    """The client of a mover, and the stores that look at its two ends.

    Parameters
    ----------
    folder
        Where the records of tasks and what is remembered of collections lie.

    Raises
    ------
    InputError
        An end has no collection, or the two name different logins.
    """

    def __init__(self, source: Endpoint, destination: Endpoint, options: TransferOptions, folder: Path) -> None:
        self._ends = source, destination
        self.source = _collection(source)
        self.destination = _collection(destination)
        if self.source.credentials != self.destination.credentials:
            raise InputError(
                f"{source.site} and {destination.site} name different Globus logins, and a task runs under one",
                remedy="name the same credentials in both site files",
            )
        self._options = options
        self.folder = folder
        self._client: globus_sdk.TransferClient | None = None
        self._connection = ExitStack()

    @property
    def client(self) -> globus_sdk.TransferClient:
        """The client, logged in; see `transfer_client` for what it raises."""
        if self._client is None:
            login = transfer_client(
                self.destination.credentials, (self.source, self.destination), timeout_s=self._options.stall_s
            )
            self._client = self._connection.enter_context(login)
        return self._client

    def open_source(self) -> ByteStore:
        """Open what looks at the source: its SSH account, the folder of this machine, or else the service."""
        return self._seen(self._ends[0], self.source)

    def open_destination(self) -> ByteStore:
        """Open what looks at the destination, and renames there."""
        return self._seen(self._ends[1], self.destination)

    def make_folders(self, paths: Sequence[str]) -> None:
        """Make the folders of these files at the destination, as the account that the task writes as."""
        self._collection_store(self._ends[1], self.destination).make_folders(paths)

    def close(self) -> None:
        """Close the client; the next use opens it again."""
        self._client = None
        self._connection.close()

    def _seen(self, end: Endpoint, collection: GlobusCollection) -> ByteStore:
        return self._collection_store(end, collection) if collection.only else open_store(end, self._options)

    def _collection_store(self, end: Endpoint, collection: GlobusCollection) -> GlobusStore:
        place = place_name(end.site, str(collection.collection), collection.root)
        memory = GlobusMemory(self.folder / f"{place}.globus-published")
        return GlobusStore(self.client, collection, end.site, memory=memory, timeout_s=self._options.stall_s)


def _collection(end: Endpoint) -> GlobusCollection:
    if end.globus is None:
        raise InputError(
            f"{end.site} has no Globus collection", remedy="add a [globus] table to its site file, or use auto"
        )
    return end.globus
