"""The tasks of the Transfer service: they really copy files between folders, check them, and fail as told."""

from __future__ import annotations

import hashlib
import os
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

_BLOCK_BYTES = 64 << 10


@dataclass
class TaskPlan:
    """What goes wrong with tasks; files are named by the end of their source path.

    Attributes
    ----------
    gate
        Tasks copy while this is set.
    block_s
        Rest after each 64 KiB.
    flips
        How often a file still arrives with a flipped bit.
    denied
        Files whose destination cannot be written: tried again and again, as the service does.
    unreadable
        Files that the source does not give.
    careless
        External checksums are not compared.
    paused
        An administrator lets the tasks wait.
    fatal
        The next task fails with this error.
    full
        The destination has no space: every task fails.
    poison
        Files that the service stumbles over, whatever it is.
    inactive
        The tasks stand still for want of a login.
    """

    gate: threading.Event = field(default_factory=threading.Event)
    block_s: float = 0.0
    flips: Counter[str] = field(default_factory=Counter)
    denied: set[str] = field(default_factory=set)
    unreadable: set[str] = field(default_factory=set)
    careless: bool = False
    paused: bool = False
    fatal: dict[str, str] | None = None
    full: bool = False
    poison: set[str] = field(default_factory=set)
    inactive: bool = False

    def __post_init__(self) -> None:
        self.gate.set()


class TransferTask:
    """A task that runs in a thread of its own.

    Parameters
    ----------
    document
        What was submitted.
    source, destination
        Give the file for a path of the collection; the source is None for a task that deletes.
    """

    def __init__(
        self,
        document: dict[str, Any],
        plan: TaskPlan,
        source: Callable[[str], Path] | None,
        destination: Callable[[str], Path],
    ) -> None:
        self.task_id = str(uuid.uuid4())
        self.document = document
        self.status = "ACTIVE"
        self.events: list[dict[str, Any]] = []
        self.sent: list[dict[str, Any]] = []
        self.skipped: list[dict[str, Any]] = []
        self._plan = plan
        self._source, self._destination = source, destination
        self._counts: Counter[str] = Counter()
        self._fatal: dict[str, str] | None = None
        self._cancelled = threading.Event()
        self._began = datetime.now(UTC)
        self._ended: datetime | None = None
        self._nice: str | None = None
        self.thread = threading.Thread(target=self._run, name=f"globus-task-{self.task_id}", daemon=True)
        self.thread.start()

    def cancel(self) -> None:
        self._cancelled.set()

    def told(self) -> dict[str, Any]:
        """Give the task document."""
        standing = self._plan.inactive and self.status == "ACTIVE"
        paused = self._plan.paused and self.status == "ACTIVE"
        return {
            "DATA_TYPE": "task",
            "task_id": self.task_id,
            "type": "DELETE" if self._source is None else "TRANSFER",
            "status": "INACTIVE" if standing else self.status,
            "fatal_error": self._fatal,
            "label": self.document.get("label"),
            "request_time": _time(self._began),
            "completion_time": _time(self._ended) if self._ended else None,
            "faults": sum(event["is_error"] for event in self.events),
            "files": len(self.document["DATA"]),
            "files_skipped": self._counts["skipped"],
            "files_transferred": len(self.sent),
            "subtasks_succeeded": self._counts["succeeded"],
            "subtasks_canceled": self._counts["canceled"],
            "subtasks_expired": 0,
            "bytes_transferred": self._counts["bytes"],
            "bytes_checksummed": self._counts["checksummed"],
            "nice_status": ("PAUSED_BY_ADMIN" if paused else self._nice) if self.status == "ACTIVE" else None,
            "is_paused": paused,
        }

    def _run(self) -> None:
        self._event("STARTED", "started")
        try:
            for item in self.document["DATA"]:
                self._wait()
                self._fail_as_planned(item)
                (self._delete if self._source is None else self._carry)(item)
                self._counts["succeeded"] += 1
            self.status = "SUCCEEDED"
            self._event("SUCCEEDED", "")
        except InterruptedError:
            if self._fatal is None:
                self._counts["canceled"] = len(self.document["DATA"]) - self._counts["succeeded"]
                self._fatal = {"code": "CANCELED", "description": "The task was canceled"}
            self.status = "FAILED"
        finally:
            self._ended = datetime.now(UTC)

    def _wait(self) -> None:
        while not self._plan.gate.wait(0.02) or self._plan.inactive or self._plan.paused:
            self._stop_if_cancelled()
            time.sleep(0.01)
        self._stop_if_cancelled()

    def _stop_if_cancelled(self) -> None:
        if self._cancelled.is_set():
            raise InterruptedError

    def _fail_as_planned(self, item: dict[str, Any]) -> None:
        if self._plan.full:
            self._fatal = {"code": "QUOTA_EXCEEDED", "description": "Disk quota exceeded"}
            raise InterruptedError
        if any(item.get("source_path", "").endswith(name) for name in self._plan.poison):
            self._fatal = {"code": "UNEXPECTED", "description": "An unexpected error"}
            raise InterruptedError
        if self._plan.fatal:
            self._fatal, self._plan.fatal = self._plan.fatal, None
            raise InterruptedError

    def _delete(self, item: dict[str, Any]) -> None:
        path = self._destination(item["path"])
        if not path.exists() and self.document.get("ignore_missing"):
            return
        path.unlink()

    def _carry(self, item: dict[str, Any]) -> None:
        assert self._source is not None
        source, destination = self._source(item["source_path"]), self._destination(item["destination_path"])
        known = next((name for name in self._plan.denied if item["source_path"].endswith(name)), None)
        while known and known in self._plan.denied:
            self._nice = "PERMISSION_DENIED"
            self._event("PERMISSION_DENIED", f"{item['destination_path']}: Permission denied", is_error=True)
            self._stop_if_cancelled()
            time.sleep(0.05)
        self._nice = None
        if not source.exists() or any(item["source_path"].endswith(name) for name in self._plan.unreadable):
            self._skip(item, "PERMISSION_DENIED" if source.exists() else "FILE_NOT_FOUND")
            return
        algorithm = item.get("checksum_algorithm", "MD5").lower()
        is_compared = self.document.get("sync_level") == 3 and destination.exists()
        if is_compared and _digest(source, algorithm) == _digest(destination, algorithm):
            self._counts["skipped"] += 1
            return
        while (digest := self._copy_checked(item, source, destination, algorithm)) is None:
            self._event("CHECKSUM_ERROR", f"{item['destination_path']}: checksums differ", is_error=True)
        facts = {"checksum": digest, "checksum_algorithm": algorithm.upper(), "size": source.stat().st_size}
        paths = {name: item[name] for name in ("source_path", "destination_path")}
        self.sent.append({"DATA_TYPE": "successful_transfer", "dynamic": False, **paths, **facts})

    def _copy_checked(self, item: dict[str, Any], source: Path, destination: Path, algorithm: str) -> str | None:
        """Copy; give the digest, or None where it has to be copied again."""
        flipped = next((name for name, left in self._plan.flips.items() if left and source.name == name), None)
        with source.open("rb") as reading, destination.open("wb") as writing:
            while block := reading.read(_BLOCK_BYTES):
                self._wait()
                if flipped:
                    block = bytes([block[0] ^ 1]) + block[1:]
                writing.write(block)
                writing.flush()
                self._counts["bytes"] += len(block)
                time.sleep(self._plan.block_s)
        if flipped:
            self._plan.flips[flipped] -= 1
        digest = _digest(source, algorithm)
        self._counts["checksummed"] += source.stat().st_size
        if self.document.get("verify_checksum") and _digest(destination, algorithm) != digest:
            return None
        if item.get("external_checksum", digest) != digest and not self._plan.careless:
            self._event(
                "EXTERNAL_CHECKSUM_ERROR", f"{item['source_path']}: not {item['external_checksum']}", is_error=True
            )
            description = "The checksum of a file is not the external checksum"
            self._fatal = {"code": "EXTERNAL_CHECKSUM_ERROR", "description": description}
            raise InterruptedError
        return digest

    def _skip(self, item: dict[str, Any], code: str) -> None:
        if not self.document.get("skip_source_errors"):
            self._fatal = {"code": code, "description": item["source_path"]}
            raise InterruptedError
        self.skipped.append(
            {
                "DATA_TYPE": "skipped_error",
                "error_code": code,
                "error_details": f"{item['source_path']}: {code}",
                "error_time": _time(datetime.now(UTC)),
                "source_path": item["source_path"],
                "destination_path": item["destination_path"],
                "is_directory": False,
            }
        )

    def _event(self, code: str, details: str, *, is_error: bool = False) -> None:
        now = _time(datetime.now(UTC))
        event = {"DATA_TYPE": "event", "code": code, "details": details, "description": code.lower()}
        self.events.insert(0, {**event, "time": now, "is_error": is_error})


def _digest(path: Path, algorithm: str) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, algorithm).hexdigest()


def _time(moment: datetime) -> str:
    return moment.isoformat(sep="T", timespec="seconds")


def file_document(path: Path) -> dict[str, Any]:
    """Describe a file, folder or link as the service does."""
    is_link = path.is_symlink()
    state = path.lstat() if is_link and not path.exists() else path.stat()
    kind = "invalid_symlink" if is_link and not path.exists() else None
    kind = kind or ("dir" if path.is_dir() else "file" if path.is_file() else "pipe" if path.is_fifo() else "other")
    return {
        "DATA_TYPE": "file",
        "name": path.name,
        "type": kind,
        "link_target": os.readlink(path) if is_link else None,  # noqa: PTH115  # as it is written
        "size": state.st_size,
        "last_modified": str(datetime.fromtimestamp(int(state.st_mtime), UTC)),
        "permissions": f"{state.st_mode & 0o7777:04o}",
        "user": "camnet",
        "group": "camnet",
    }
