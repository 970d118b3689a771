"""What the page of a benchmark shows; made by the flow that measured it."""

from __future__ import annotations

from pathlib import Path

from tasks.artifacts import Record


class Series(Record):
    """One line of a figure."""

    name: str
    points: tuple[tuple[float, float], ...]


class Grid(Record):
    """A table with text in its cells; the headings have the units.

    Attributes
    ----------
    absent
        What stands there when there are no rows.
    """

    title: str
    lead: str
    headings: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    absent: str = "Not measured."


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
