"""What a transfer benchmark measures: cells of a matrix, and records of their trials."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from pydantic import Field

from tasks.artifacts import Record, read_lines
from tasks.errors import InputError

_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*(B|KB|MB|GB|TB)?", re.IGNORECASE)
_UNITS = {"B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}


class Cell(Record):
    """One combination that is measured.

    Attributes
    ----------
    kind
        What it is for: ``size`` (Table 5 and Figure 8), ``files`` (the same bytes as many small files),
        ``streams`` (other numbers of connections), ``shards`` (a run's own shards).
    file_bytes
        Of each of its files; of a run's shards the mean, rounded down.
    """

    kind: Literal["size", "files", "streams", "shards"]
    source: str
    destination: str
    protocol: str
    file_bytes: int = Field(ge=0)
    files: int = Field(1, ge=1)
    streams: int = Field(ge=1)

    @property
    def total_bytes(self) -> int:
        """Bytes of all its files."""
        return self.file_bytes * self.files


class Trial(Record):
    """One measurement of a cell.

    Attributes
    ----------
    repeat
        0 is the warm-up, which counts for nothing.
    seconds
        The whole call: connecting, start-up, wire, verification, renaming.
    wire_seconds, startup_seconds, verify_seconds
        Parts of it as the ledger has them, summed over the files; files that travel side by side count each.
    load
        Of the machine that measures, of the minute before; None in files of older versions.
    error
        Why it failed; None where all files arrived and were verified.
    """

    cell: Cell
    repeat: int = Field(ge=0)
    start: str
    seconds: float = Field(ge=0)
    load: float | None = None
    wire_seconds: float = 0.0
    startup_seconds: float = 0.0
    verify_seconds: float = 0.0
    retries: int = 0
    bytes_resent: int = 0
    error: str | None = None

    @property
    def megabits_per_s(self) -> float | None:
        """Rate over the whole call, verified; None where it failed."""
        if self.error is not None or self.seconds <= 0:
            return None
        return self.cell.total_bytes * 8 / 1e6 / self.seconds


def parse_size(text: str) -> int:
    """Read ``100MB`` as bytes; units are decimal (MB = 10^6 bytes).

    Raises
    ------
    InputError
        It is no size.
    """
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise InputError(f"{text!r} is no size", remedy="write sizes as 500kB, 100MB, 2GB")
    return round(float(match[1]) * _UNITS[(match[2] or "B").upper()])


def trial_line(trial: Trial) -> str:
    """Tell in one line what was measured."""
    cell = trial.cell
    what = f"{cell.source} to {cell.destination}, {cell.protocol}, {cell.files} files of {cell.file_bytes} bytes, " + (
        f"repeat {trial.repeat}" if trial.repeat else "warm-up"
    )
    if trial.megabits_per_s is None:
        return f"{what}: failed: {trial.error}"
    return f"{what}: {trial.seconds:.2f} s, {trial.megabits_per_s:.1f} Mb/s"


def read_trials(path: Path) -> list[Trial]:
    """Read the trials of a benchmark, or of several that were appended; a line that was cut off is left out."""
    return read_lines(path, Trial)


def routes(names: Sequence[str]) -> list[tuple[str, str]]:
    """List all ordered pairs of different sites."""
    return [(source, destination) for source in names for destination in names if source != destination]
