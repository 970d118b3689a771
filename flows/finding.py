"""What ``camnet doctor`` tells of one thing."""

from __future__ import annotations

from tasks.artifacts import Record


class Finding(Record):
    """One thing that was looked at."""

    what: str
    found: str
    good: bool
