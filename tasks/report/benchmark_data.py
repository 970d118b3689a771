"""What the page of a benchmark shows; made by the flow that measured it."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from pydantic import Field

from tasks.artifacts import Record


class Series(Record):
    """One line of a figure."""

    name: str
    points: tuple[tuple[float, float], ...]


class Grid(Record):
    """A table with text in its cells; the headings have the units.

    Attributes
    ----------
    key
        Its name for machines: of its place in the page, and of its artifact in Prefect.
    absent
        What stands there when there are no rows.
    """

    key: str = Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$")
    title: str
    lead: str
    headings: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    absent: str = "Not measured."

    @property
    def records(self) -> list[dict[str, str]]:
        """Give each row by its headings; of equal headings the second is told from the first by a number."""
        seen: Counter[str] = Counter()
        names = []
        for heading in self.headings:
            seen[heading] += 1
            names.append(heading if seen[heading] == 1 else f"{heading} ({seen[heading]})")
        return [dict(zip(names, row, strict=True)) for row in self.rows]


class BenchmarkData(Record):
    """The whole page.

    Attributes
    ----------
    kind
        What is measured, for example ``transfer``.
    measured
        When.
    units
        A sentence about the units.
    facts
        Name and value of what has to be known beside the figures: machine, versions, links.
    pictures
        Caption and file of each.
    """

    kind: str
    title: str
    measured: str
    units: str
    facts: tuple[tuple[str, str], ...]
    grids: tuple[Grid, ...]
    pictures: tuple[tuple[str, Path], ...]
