"""A Globus collection as a `transfer.store.ByteStore`: it looks, renames and removes; bytes travel in tasks only."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterable, Sequence
from typing import Any, NoReturn

import globus_sdk

from tasks.errors import InputError, PermanentFault, RetryableFault
from transfer.globus_faults import globus_errors
from transfer.globus_memory import GlobusMemory
from transfer.servers import GlobusCollection
from transfer.store import FileState, Follower

_MOST_LISTED = 100_000
"""Entries that the service lists of a folder; those after it are asked for one by one."""
_LOOK_S = 0.2


class GlobusStore:
    """Files below the root of a collection, seen through the Transfer service.

    Each folder is listed once, until `forget`. The service tells no digests: one is known of a file only where
    the mover has it from a task (`vouch`), or where it was published before and has kept its size and time.

    Parameters
    ----------
    site
        For messages.
    memory
        What was published before; None: nothing is remembered.
    """

    def __init__(
        self,
        client: globus_sdk.TransferClient,
        collection: GlobusCollection,
        site: str,
        *,
        memory: GlobusMemory | None = None,
        timeout_s: float,
        close: Callable[[], None] = lambda: None,
    ) -> None:
        self._client = client
        self._collection = collection
        self._site = site
        self._memory = memory
        self._timeout_s = timeout_s
        self._close = close
        self._listings: dict[str, dict[str, dict[str, Any]] | None] = {}
        self._refused: dict[str, PermanentFault] = {}
        self._vouched: dict[str, str] = {}

    def stat(self, path: str, *, digest: bool = False) -> FileState | None:
        """See `ByteStore.stat`. The digest is None where nobody has vouched for it."""
        *folders, _ = path.split("/")
        for count in range(1, len(folders) + 1):
            way = "/".join(folders[:count])
            folder = self._entry(way)
            if folder is None:
                return None
            self._require("dir", folder, way)
        entry = self._entry(path)
        if entry is None:
            return None
        self._require("file", entry, path)
        size_bytes = int(entry["size"])
        if not digest:
            return FileState(size_bytes)
        if path in self._vouched:
            return FileState(size_bytes, self._vouched[path], "sha256 by Globus")
        known = self._memory.digest(path, size_bytes, str(entry["last_modified"])) if self._memory else None
        return FileState(size_bytes, known, "remembered: size and time as Globus left them" if known else None)

    def vouch(self, path: str, digest: str) -> None:
        """Take from the mover that a task has verified the file."""
        self._vouched[path] = digest

    def forget(self) -> None:
        """List the folders again: a task has worked in them."""
        self._listings.clear()
        self._refused.clear()

    def make_folders(self, paths: Iterable[str]) -> None:
        """Make the folders that the files will lie in, where they are missing."""
        wanted = {"/".join(path.split("/")[:count]) for path in paths for count in range(path.count("/") + 1)}
        for folder in sorted(wanted, key=lambda folder: (folder.count("/"), len(folder))):
            if self._listing(folder) is not None:
                continue
            try:
                with globus_errors(self._named(folder)):
                    self._client.operation_mkdir(self._collection.collection, self._folder_path(folder))
            except PermanentFault as fault:
                # Another transfer may have made it since we looked.
                if "exists" not in fault.cause.lower():
                    raise
            self._listings.pop(folder, None)

    def publish(self, partial: str, final: str) -> None:
        """See `ByteStore.publish`. Whether it is flushed to disk is up to the collection."""
        self.stat(final)  # refuses what is no file
        self.stat(partial)
        entry = self._entry(partial)
        if entry is None:
            raise RetryableFault("is not there any more", subject=self._named(partial))
        try:
            with globus_errors(self._named(final)):
                self._client.operation_rename(
                    self._collection.collection,
                    self._collection.full_path(partial),
                    self._collection.full_path(final),
                )
        except (PermanentFault, RetryableFault):
            # The answer to a first request may be lost, and the repeated one does not find the file.
            self.forget()
            if self._entry(partial) is not None or not _is_same(self._entry(final), entry):
                raise
        folder, name = _split(final)
        listing = self._listing(folder)
        if listing is not None:
            listing.pop(_split(partial)[1], None)
            listing[name] = {**entry, "name": name}
        digest = self._vouched.pop(partial, None)
        if self._memory and digest:
            self._memory.add(final, int(entry["size"]), str(entry["last_modified"]), digest)

    def remove(self, path: str) -> None:
        """See `ByteStore.remove`."""
        self.remove_all([path])

    def remove_all(self, paths: Sequence[str]) -> None:
        """Remove these files, as many as are there, in one task of the service; return when it has ended."""
        there = [path for path in paths if self.stat(path) is not None]
        if not there:
            return
        request = globus_sdk.DeleteData(
            endpoint=self._collection.collection,
            label="CamNet: remove partial files",
            ignore_missing=True,
            notify_on_succeeded=False,
            notify_on_failed=False,
            notify_on_inactive=False,
        )
        for path in there:
            request.add_item(self._collection.full_path(path))
        with globus_errors(self._named(there[0])):
            task = self._client.submit_delete(request)["task_id"]
            ends_s = time.monotonic() + self._timeout_s
            while (status := self._client.get_task(task)["status"]) == "ACTIVE" and time.monotonic() < ends_s:
                time.sleep(_LOOK_S)
        self.forget()
        if status != "SUCCEEDED":
            raise RetryableFault(f"the Globus task {task} that removes it is {status}", subject=self._named(there[0]))

    def remove_folder(self, path: str) -> None:
        """Leave the folder where it is: the service removes a folder only with all that is in it."""

    def free_bytes(self) -> int | None:
        """Give None: the service does not tell it."""
        return None

    def read(self, path: str, offset_bytes: int, size_bytes: int) -> Generator[bytes, None, None]:
        """Refuse: the service gives no bytes to this machine."""
        self._refuse()

    def write(self, path: str, offset_bytes: int, blocks: Iterable[bytes | memoryview]) -> None:
        """Refuse: the service takes no bytes of this machine."""
        self._refuse()

    def follow(self, path: str) -> Follower | None:
        """Give None: the service tells no digests."""
        return None

    def close(self) -> None:
        """See `ByteStore.close`."""
        self._close()

    def _refuse(self) -> NoReturn:
        raise InputError(
            "is reached through its Globus collection alone, whose bytes travel in Globus tasks only",
            subject=self._site,
            remedy="use the protocol globus, or add [ssh] to the site file",
        )

    def _entry(self, path: str) -> dict[str, Any] | None:
        folder, name = _split(path)
        listing = self._listing(folder)
        if listing is None:
            return None
        if name not in listing and len(listing) >= _MOST_LISTED:
            return self._asked(path)
        return listing.get(name)

    def _asked(self, path: str) -> dict[str, Any] | None:
        with globus_errors(self._named(path)):
            try:
                answer = self._client.operation_stat(self._collection.collection, self._collection.full_path(path))
            except globus_sdk.TransferAPIError as error:
                if _is_missing(error):
                    return None
                raise
        return dict(answer.data)

    def _listing(self, folder: str) -> dict[str, dict[str, Any]] | None:
        if folder in self._refused:
            raise self._refused[folder]
        if folder not in self._listings:
            try:
                self._listings[folder] = self._listed(folder)
            except PermanentFault as fault:
                self._refused[folder] = fault  # not asked for again with each of its files
                raise
        return self._listings[folder]

    def _listed(self, folder: str) -> dict[str, dict[str, Any]] | None:
        with globus_errors(self._named(folder)):
            try:
                answer = self._client.operation_ls(self._collection.collection, self._folder_path(folder))
            except globus_sdk.TransferAPIError as error:
                if _is_missing(error):
                    return None
                raise
            return {str(entry["name"]): dict(entry) for entry in answer}

    def _require(self, kind: str, entry: dict[str, Any], path: str) -> None:
        if entry.get("link_target") is not None or entry["type"] == "invalid_symlink":
            raise PermanentFault(
                "leads through a symbolic link, which could point out of the root",
                subject=self._named(path),
                remedy="replace the link by the folder or file itself",
            )
        if entry["type"] != kind:
            words = {"dir": "folder", "file": "regular file"}[kind]
            raise PermanentFault(
                f"is no {words}", subject=self._named(path), remedy="move away what stands under that name"
            )

    def _folder_path(self, folder: str) -> str:
        return f"{self._collection.full_path(folder).rstrip('/')}/"

    def _named(self, path: str) -> str:
        return f"{self._site}:{path}" if path else self._site


def _split(path: str) -> tuple[str, str]:
    folder, _, name = path.rpartition("/")
    return folder, name


def _is_missing(error: globus_sdk.TransferAPIError) -> bool:
    """Whether it is the path that is missing, and not the collection."""
    return error.http_status == 404 and not str(error.code).startswith("Endpoint")


def _is_same(found: dict[str, Any] | None, known: dict[str, Any]) -> bool:
    return found is not None and all(found[name] == known[name] for name in ("size", "last_modified", "type"))
