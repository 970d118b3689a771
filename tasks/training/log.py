"""The log of a training: one JSON object a line, written by rank 0, watched by the launcher."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO

LogValue = str | float | bool | list[str] | list[int] | None
_PROGRESS_S = 2.0


class TrainingLog:
    """Appends events to a file as they happen.

    Parameters
    ----------
    path
        The file; None on ranks other than 0, which stay silent.
    also
        Called with each event and its values after it is written.
    """

    def __init__(self, path: Path | None, also: Callable[[str, dict[str, Any]], None] | None = None) -> None:
        self._file: TextIO | None = None
        self._also = also
        self._last_progress = 0.0
        self._lasting: list[str] = []
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = path.open("a", encoding="utf-8")

    def write(self, event: str, **values: LogValue) -> None:
        """Append one event with its time (UTC)."""
        self._lasting += self._append(event, values)

    def progress(self, event: str, **values: LogValue) -> None:
        """Append an event unless the last such one is less than two seconds old."""
        now = time.monotonic()
        if now - self._last_progress >= _PROGRESS_S:
            self._last_progress = now
            self._append(event, values)

    @property
    def lasting(self) -> str:
        """All lines so far, without those of `progress`."""
        return "".join(self._lasting)

    def take_over(self, lasting: str) -> None:
        """Begin with the lines of a training that this one goes on with."""
        if self._file is None:
            return
        self._lasting = lasting.splitlines(keepends=True)
        self._file.write(lasting)
        self._file.flush()
        if self._also is None:
            return
        for line in self._lasting:
            row = json.loads(line)
            self._also(row["event"], {name: value for name, value in row.items() if name not in ("time", "event")})

    def _append(self, event: str, values: dict[str, Any]) -> list[str]:
        if self._file is None:
            return []
        row = {"time": datetime.now(UTC).isoformat(timespec="milliseconds"), "event": event, **values}
        line = json.dumps(row, allow_nan=False) + "\n"
        self._file.write(line)
        self._file.flush()
        if self._also is not None:
            self._also(event, values)
        return [line]

    def __enter__(self) -> TrainingLog:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            self._file.close()


def read_log(path: Path) -> list[dict[str, Any]]:
    """Read all complete lines of a log."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
