"""What a benchmark gives back."""

from __future__ import annotations

from pathlib import Path

from tasks.artifacts import Record


class BenchmarkResult(Record):
    """Where the report is, and how many trials there are; `failed` are those that did not succeed at any time."""

    report: Path
    trials: int
    failed: int
