"""The ledger: one line an attempt to move a file, with its rate. JSON Lines, only ever appended to."""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError

from tasks import atomic
from tasks.artifacts import Record

_log = logging.getLogger(__name__)


class LedgerRow(Record):
    """One attempt to move one file.

    Attributes
    ----------
    start
        UTC, ISO 8601; for people. All durations are differences of a monotonic clock.
    streams
        Connections that carried this file.
    file_bytes
        Size of the file.
    wire_bytes
        Bytes of the file that this attempt put on the wire, without what the protocol adds.
    wire_seconds
        From the first of them to the last acknowledgement; connecting, verifying and renaming are not in it.
        Of a program that carries files: the time that it ran; files that it carried together share it by
        their bytes.
    startup_seconds
        Time that a program or service took to start and end, where that can be told apart; not in
        `wire_seconds`.
    verify_seconds, verified_by
        Time for the digest at the destination, and how it was found.
    megabits_per_s
        ``wire_bytes · 8 / 10^6 / wire_seconds``; None when nothing was sent, or in no time.
    flag
        ``no time``: bytes were sent, but the clock did not go on meanwhile, or went back (that of a service; our own
        is monotonic). Such a row counts for no rate.
    retries
        Attempts at this file before this one, in the same call.
    bytes_resent
        Bytes of `wire_bytes`, at most, that had been sent before: in an earlier attempt or by a process that died.
    outcome
        ``already``: the file was there, and nothing was sent.
    """

    start: str
    run: str
    source: str
    destination: str
    protocol: str
    path: str
    streams: int = Field(ge=1)
    file_bytes: int = Field(ge=0)
    wire_bytes: int = Field(0, ge=0)
    wire_seconds: float = Field(0.0, ge=0)
    startup_seconds: float = Field(0.0, ge=0)
    verify_seconds: float = Field(0.0, ge=0)
    verified_by: str | None = None
    megabits_per_s: float | None = None
    flag: Literal["no time"] | None = None
    retries: int = Field(0, ge=0)
    bytes_resent: int = Field(0, ge=0)
    outcome: Literal["done", "already", "failed"]
    error: str | None = None


class Ledger:
    """The ledger at `path`; several processes may append to it at once."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def append(self, row: LedgerRow) -> None:
        """Add one row with a single write.

        Raises
        ------
        PermanentFault, InputError
            The ledger cannot be written.
        """
        try:
            atomic.append_line(self.path, row.model_dump_json().encode())
        except OSError as error:
            raise atomic.disk_fault(error, self.path) from error

    def read(self) -> list[LedgerRow]:
        """Return all whole rows, in order; rows that cannot be read are counted in the log."""
        try:
            lines = self.path.read_bytes().splitlines()
        except FileNotFoundError:
            return []
        rows = [row for line in lines if (row := _row(line)) is not None]
        unread = sum(1 for line in lines if line.strip()) - len(rows)
        if unread:
            _log.warning("%s: %d rows cannot be read and were left out", self.path, unread)
        return rows


def measured(wire_bytes: int, wire_seconds: float) -> dict[str, float | str | None]:
    """Give the fields `megabits_per_s` and `flag` of a row."""
    flag = "no time" if wire_bytes and wire_seconds <= 0 else None
    return {"megabits_per_s": megabits_per_s(wire_bytes, wire_seconds), "flag": flag}


def megabits_per_s(wire_bytes: int, wire_seconds: float) -> float | None:
    """Rate in 10^6 bits a second, or None where nothing was sent or no time passed."""
    return wire_bytes * 8 / 1e6 / wire_seconds if wire_bytes and wire_seconds > 0 else None


def utc_now() -> str:
    """Return the time as the ledger writes it."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def _row(line: bytes) -> LedgerRow | None:
    try:
        return LedgerRow.model_validate(json.loads(line))
    except (ValueError, ValidationError):
        return None
