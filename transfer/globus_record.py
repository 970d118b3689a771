"""The record of one Globus task: written before the task is submitted, so that a crash never makes a second one."""

from __future__ import annotations

import errno
import fcntl
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tasks import atomic
from tasks.errors import InputError
from transfer.journal import Target, place_name

_SCHEMA = "camnet-globus-task/1"
SUFFIX = ".globus-task"


class GlobusRecord:
    """An open record; holds a lock, so that no other process follows the same task.

    Attributes
    ----------
    document
        What is submitted, with its submission id: submitting it again gives the same task.
    partials
        Partial path of each file, in the order of the document's items.
    task_id
        None until the service has answered.
    """

    def __init__(self, path: Path, descriptor: int, document: dict[str, Any], files: list[list[str]]) -> None:
        self.path = path
        self.document = document
        self.partials = [partial for _, _, partial in files]
        self._partial_of = {(name, digest): partial for name, digest, partial in files}
        self.task_id: str | None = None
        self._descriptor = descriptor

    @classmethod
    def create(
        cls, folder: Path, document: dict[str, Any], targets: Sequence[Target], partials: Sequence[str]
    ) -> GlobusRecord:
        """Write a new record durably.

        Parameters
        ----------
        targets, partials
            Of each item of the document.

        Raises
        ------
        PermanentFault, InputError
            The folder cannot be written.
        """
        path = folder / f"{_prefix(targets[0])}-{document['submission_id']}{SUFFIX}"
        files = [[one.path, one.digest, partial] for one, partial in zip(targets, partials, strict=True)]
        try:
            folder.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o600)
            try:
                _lock_new(descriptor, path)
                _append(descriptor, {"schema": _SCHEMA, "document": document, "files": files})
                atomic.fsync_folder(folder)
            except BaseException:  # Ctrl-C too: half a record would stand for a task that was never submitted
                os.close(descriptor)
                path.unlink(missing_ok=True)
                raise
        except OSError as error:
            raise atomic.disk_fault(error, path) from error
        return cls(path, descriptor, document, files)

    @classmethod
    def take(cls, path: Path) -> GlobusRecord | None:
        """Open the record of a process that has died; None where one that lives holds it, or it is gone.

        A record whose first line is not whole was never submitted; it is removed.
        """
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_APPEND)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise atomic.disk_fault(error, path) from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return None
        head, task_id = _read(path)
        if head is None:
            path.unlink(missing_ok=True)
            os.close(descriptor)
            return None
        record = cls(path, descriptor, head["document"], head["files"])
        record.task_id = task_id
        return record

    def partial_of(self, target: Target) -> str:
        """Give the partial path of a file that the task carries."""
        return self._partial_of[target.path, target.digest]

    def submitted(self, task_id: str) -> None:
        """Note, durably, which task it has become."""
        self.task_id = task_id
        _append(self._descriptor, {"task_id": task_id})

    def discard(self) -> None:
        """Remove the record: its task has ended, and what it brought is taken care of."""
        self.path.unlink(missing_ok=True)
        self.close()

    def close(self) -> None:
        """Give the lock back; what is there of the record stays."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def records_to(folder: Path, target: Target) -> list[tuple[Path, list[tuple[str, str]]]]:
    """Find the records of tasks to the site and root of `target`, with path and digest of their files.

    Raises
    ------
    InputError
        A record cannot be read.
    """
    found = []
    for path in sorted(folder.glob(f"{_prefix(target)}-*{SUFFIX}")):
        head, _ = _read(path)
        found.append((path, [(name, digest) for name, digest, _ in head["files"]] if head else []))
    return found


def partial_path(target: Target, submission_id: str) -> str:
    """Give the partial name of a file in one task; no two tasks ever write to the same one."""
    folder, slash, _ = target.path.rpartition("/")
    return f"{folder}{slash}.{place_name(target.path, target.digest, submission_id)}.camnet-part"


def _prefix(target: Target) -> str:
    return place_name(target.site, target.root)


def _lock_new(descriptor: int, path: Path) -> None:
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    if not path.exists():  # another process took it for what a dead one has left, before we held the lock
        raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN), str(path))


def _append(descriptor: int, fact: dict[str, Any]) -> None:
    atomic.write_all(descriptor, json.dumps(fact).encode() + b"\n")
    os.fsync(descriptor)


def _read(path: Path) -> tuple[dict[str, Any] | None, str | None]:
    try:
        lines = path.read_bytes().splitlines(keepends=True)
    except FileNotFoundError:
        return None, None
    except OSError as error:
        raise InputError(
            f"the record of a Globus task cannot be read ({error.strerror})",
            subject=path,
            remedy="let it belong to the user who runs the transfer, or remove it",
        ) from error
    facts = []
    for line in lines:
        try:
            facts.append(json.loads(line))
        except ValueError:
            break  # the process died while it wrote
    head = facts[0] if facts and isinstance(facts[0], dict) and facts[0].get("schema") == _SCHEMA else None
    return head, next((str(fact["task_id"]) for fact in facts[1:] if "task_id" in fact), None)
