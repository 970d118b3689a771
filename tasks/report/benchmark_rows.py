"""What all benchmarks tell alike: their trials as CSV, and when they ran."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence


def csv_text(rows: Sequence[Mapping[str, object]]) -> str:
    """Write rows as CSV, with all columns that a row has; nothing where there are no rows."""
    output = io.StringIO()
    if rows:
        names = dict.fromkeys(name for row in rows for name in row)
        writer = csv.DictWriter(output, list(names), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return output.getvalue()


def measured_when(starts: Iterable[str]) -> str:
    """Tell from the starts of the trials (ISO 8601, UTC) from when to when was measured."""
    ordered = [start[:16].replace("T", " ") for start in sorted(starts)]
    return f"Measured from {ordered[0]} to {ordered[-1]} UTC" if ordered else "Nothing was measured"
