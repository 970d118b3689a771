"""Annotations as the XML that ASAP opens, and back."""

from __future__ import annotations

import math
from array import array
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from xml.etree.ElementTree import ParseError
from xml.sax.saxutils import quoteattr

import numpy as np
from defusedxml.common import DefusedXmlException
from defusedxml.ElementTree import DefusedXMLParser

from tasks.errors import InputError
from tasks.slides.annotations import Annotations, Points, Polygon, Role, checked_outline, has_area

CAMELYON16_GROUPS: Mapping[Role, str] = {"tumour": "_0", "hole": "_2"}
CAMELYON17_FIRST_GROUPS: Mapping[Role, str] = {"tumour": "metastases", "hole": "normal"}
CAMELYON17_GROUPS: Mapping[Role, str] = {"tumour": "Tumor", "hole": "Exclusion"}

# CAMELYON16, CAMELYON17 first release, later releases. An annotation in no group ("None") was drawn by the
# pathologist as a lesion and left ungrouped.
_ROLES: Mapping[str, Role] = {
    "_0": "tumour",
    "_1": "tumour",
    "tumor": "tumour",
    "tumour": "tumour",
    "metastases": "tumour",
    "none": "tumour",
    "_2": "hole",
    "exclusion": "hole",
    "normal": "hole",
}
_OUTLINES = {"polygon", "spline", "rectangle"}
_ROOT = "ASAP_Annotations"
_COLOUR = "#F4FA58"
_GROUP_COLOUR = "#64FE2E"
_BLOCK_BYTES = 1 << 20
# More digits than this are no position in a list, and would not fit 64 bits.
_MOST_ORDER_DIGITS = 18


def read_asap_xml(path: Path) -> Annotations:
    """Read an ASAP annotation file.

    Groups ``_0``, ``_1``, ``Tumor``, ``metastases`` and ``None`` (no group) are tumour; ``_2``, ``Exclusion``
    and ``normal`` are holes; a sub-group counts as the nearest known group that it is part of. Other groups,
    point sets, and outlines with fewer than three distinct points are left out and counted in ``dropped``.
    A spline is taken as the polygon through its points. Entities, DTDs and external references are refused.

    Raises
    ------
    InputError
        The file is no ASAP XML, a coordinate is no finite number, or none of its groups is known.
    """
    content = _parse(path)
    polygons: list[Polygon] = []
    dropped: Counter[str] = Counter()
    unknown: set[str] = set()
    for entry in content.entries:
        role = _role(entry.group, content.parents)
        if entry.kind.lower() not in _OUTLINES:
            dropped[f"{entry.kind} is no outline"] += 1
            continue
        if role is None:
            unknown.add(entry.group)
            dropped[f"group {entry.group!r} is neither tumour nor hole"] += 1
            continue
        points = _corners(entry.kind, entry.points(path))
        if not has_area(points):
            dropped["fewer than three distinct points"] += 1
            continue
        polygons.append(Polygon(entry.name, role, points))
    if unknown and not polygons:
        raise InputError(
            f"has no group that is known as tumour or hole, only {', '.join(sorted(map(repr, unknown)))}",
            subject=path,
            remedy="rename the groups to Tumor and Exclusion in ASAP",
        )
    return Annotations(tuple(polygons), dict(dropped), str(path))


def to_asap_xml(annotations: Annotations, groups: Mapping[Role, str] = CAMELYON17_GROUPS) -> str:
    """Write outlines as ASAP XML.

    ASAP knows no inner outlines: those of a polygon become part of its outline, reached by a cut without width.

    Parameters
    ----------
    annotations
        Outlines in level-0 pixels; coordinates are written with two decimals.
    groups
        Name of the group for each role.
    """
    lines = ['<?xml version="1.0"?>', f"<{_ROOT}>", "\t<Annotations>"]
    for polygon in annotations.polygons:
        lines += _annotation(polygon, groups[polygon.role])
    lines += ["\t</Annotations>", "\t<AnnotationGroups>"]
    lines += [
        f'\t\t<Group Name={quoteattr(name)} PartOfGroup="None" Color="{_GROUP_COLOUR}">\n'
        "\t\t\t<Attributes />\n\t\t</Group>"
        for name in groups.values()
    ]
    return "\n".join([*lines, "\t</AnnotationGroups>", f"</{_ROOT}>", ""])


@dataclass(slots=True)
class _Entry:
    """One annotation of the file, its coordinates in the order in which they stand."""

    name: str
    kind: str
    group: str
    order: array[int] = field(default_factory=lambda: array("q"))
    x: array[float] = field(default_factory=lambda: array("d"))
    y: array[float] = field(default_factory=lambda: array("d"))
    wrong: str = ""

    def add(self, attributes: Mapping[str, str]) -> None:
        """Append a coordinate; one that is no number counts only if the annotation is used."""
        order = attributes.get("Order", "")
        position = int(order) if order.isdecimal() and len(order) <= _MOST_ORDER_DIGITS else len(self.order)
        self.order.append(position)
        x, y = _number(attributes.get("X", "")), _number(attributes.get("Y", ""))
        self.x.append(x)
        self.y.append(y)
        if not self.wrong and not math.isfinite(x + y):
            axis = "Y" if math.isfinite(x) else "X"
            self.wrong = f"{axis}={attributes.get(axis, '')!r}"

    def points(self, path: Path) -> Points:
        """float64 (n, 2), in the order that the file states, the closing point left out."""
        where = f"{path} (annotation {self.name or '?'!r})"
        if self.wrong:
            raise InputError(
                f"has the coordinate {self.wrong}, which is no finite number",
                subject=where,
                remedy="correct or delete this annotation in ASAP: without it, tumour would count as normal tissue",
            )
        order, points = np.array(self.order, np.int64), np.column_stack([self.x, self.y])
        if len(np.unique(order)) == len(order):
            points = points[np.argsort(order)]
        return checked_outline(points, where)


class _Content:
    """What the parser hands over: annotations and groups, as they come. The tree itself is never built."""

    def __init__(self) -> None:
        self.root = ""
        self.entries: list[_Entry] = []
        self.parents: dict[str, str] = {}
        self._open: _Entry | None = None

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        if not self.root:
            self.root = tag
        if tag == "Annotation":
            self._open = _Entry(
                attributes.get("Name", ""), attributes.get("Type", "Polygon"), attributes.get("PartOfGroup", "None")
            )
            self.entries.append(self._open)
        elif tag == "Coordinate" and self._open is not None:
            self._open.add(attributes)
        elif tag == "Group":
            self.parents[attributes.get("Name", "")] = attributes.get("PartOfGroup", "None")

    def end(self, tag: str) -> None:
        if tag == "Annotation":
            self._open = None

    def close(self) -> None:
        """Nothing is left to do; the parser asks for this method."""


def _parse(path: Path) -> _Content:
    content = _Content()
    parser = DefusedXMLParser(target=content, forbid_dtd=True)
    try:
        with path.open("rb") as file:
            while block := file.read(_BLOCK_BYTES):
                parser.feed(block)
        parser.close()
    except (DefusedXmlException, ParseError, OSError, ValueError, LookupError) as error:
        raise InputError(
            f"cannot be read as annotation XML ({type(error).__name__}: {error})",
            subject=path,
            remedy="save the annotations again as ASAP XML, or leave this file out",
        ) from error
    if content.root != _ROOT:
        raise InputError(
            f"is XML, but no ASAP annotation file (its root is {content.root!r}, not {_ROOT})",
            subject=path,
            remedy="export the annotations as ASAP XML",
        )
    return content


def _role(group: str, parents: Mapping[str, str]) -> Role | None:
    seen: set[str] = set()
    while group.lower() not in _ROLES:
        if group in seen or group not in parents:
            return None
        seen.add(group)
        group = parents[group]
        if group.lower() == "none":
            return None
    return _ROLES[group.lower()]


def _number(text: str) -> float:
    if "," in text:
        # Written under a locale with decimal commas; thousands separators never occur in these files.
        text = text.replace(",", ".", 1) if "." not in text else ""
    try:
        return float(text)
    except ValueError:
        return math.nan


def _corners(kind: str, points: Points) -> Points:
    if kind.lower() == "rectangle" and len(points) == 2:
        (left, top), (right, bottom) = points
        return np.array([(left, top), (right, top), (right, bottom), (left, bottom)])
    return points


def _annotation(polygon: Polygon, group: str) -> list[str]:
    return [
        f'\t\t<Annotation Name={quoteattr(polygon.name)} Type="Polygon" PartOfGroup={quoteattr(group)} '
        f'Color="{_COLOUR}">',
        "\t\t\t<Coordinates>",
        *(
            f'\t\t\t\t<Coordinate Order="{order}" X="{x:.2f}" Y="{y:.2f}" />'
            for order, (x, y) in enumerate(_one_outline(polygon))
        ),
        "\t\t\t</Coordinates>",
        "\t\t</Annotation>",
    ]


def _one_outline(polygon: Polygon) -> Points:
    """Join the rings into one outline; inner ones run against the outer one, so that they are wound zero times."""
    outer, *inner = polygon.rings
    if not inner:
        return outer
    first = outer[:1]
    parts = [outer, first]
    for ring in inner:
        opposite = ring if _area(ring) * _area(outer) < 0 else ring[::-1]
        parts += [opposite, opposite[:1], first]
    return np.vstack(parts)


def _area(points: Points) -> float:
    x, y = (points - points[0]).T
    return float(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1)))
