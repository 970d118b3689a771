"""The conditions of a benchmark, which are the same for all measurements in its output folder."""

from __future__ import annotations

from pathlib import Path

from tasks import atomic
from tasks.artifacts import Record, read_record
from tasks.errors import InputError

CONDITIONS = "conditions.json"


def keep_conditions(folder: Path, conditions: Record, named: str) -> None:
    """Write the conditions into `folder`, or find them there.

    Parameters
    ----------
    named
        What belongs to them, for the error.

    Raises
    ------
    InputError
        The folder holds measurements under other conditions.
    """
    path = folder / CONDITIONS
    if path.is_file() and read_record(path, type(conditions)) != conditions:
        raise InputError(
            f"holds measurements under other conditions ({named})",
            subject=folder,
            remedy=f"choose another folder; {CONDITIONS} in this one has its conditions",
        )
    folder.mkdir(parents=True, exist_ok=True)
    atomic.write_text(path, conditions.model_dump_json(indent=1))
