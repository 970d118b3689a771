"""Tumour outlines: read from ASAP XML, painted as masks."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal
from xml.etree.ElementTree import Element, ParseError

import numpy as np
import numpy.typing as npt
from defusedxml import ElementTree
from defusedxml.common import DefusedXmlException

from tasks.errors import InputError
from tasks.slides.winding import inside_any

Role = Literal["tumour", "hole"]

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
_FEWEST_POINTS = 3


@dataclass(frozen=True, eq=False)
class Polygon:
    """One closed outline.

    Attributes
    ----------
    name
        As in the annotation file.
    role
        ``tumour``, or ``hole``: what lies inside is no tumour.
    points_level0_px
        float64, shape (n, 2): x, y in level-0 pixels, the last point not the first one again.
    """

    name: str
    role: Role
    points_level0_px: npt.NDArray[np.float64]


@dataclass(frozen=True)
class Annotations:
    """All outlines of a slide.

    Attributes
    ----------
    polygons
        In the order of the file.
    dropped
        Why how many entries of the file were left out.
    """

    polygons: tuple[Polygon, ...]
    dropped: Mapping[str, int] = field(default_factory=dict)

    def of(self, role: Role) -> list[Polygon]:
        """Return the polygons with this role."""
        return [polygon for polygon in self.polygons if polygon.role == role]

    def within(self, width_px: int, height_px: int) -> Annotations:
        """Leave out, and count, the polygons that lie wholly outside a slide of this size (level-0 pixels)."""
        kept = tuple(polygon for polygon in self.polygons if _touches(polygon, width_px, height_px))
        outside = len(self.polygons) - len(kept)
        if not outside:
            return self
        return replace(self, polygons=kept, dropped={**self.dropped, "outside the slide": outside})


def read_annotations(path: Path) -> Annotations:
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
    root = _parse(path)
    parents = {group.get("Name", ""): group.get("PartOfGroup", "None") for group in root.iter("Group")}
    polygons: list[Polygon] = []
    dropped: Counter[str] = Counter()
    unknown: set[str] = set()
    for annotation in root.iter("Annotation"):
        group = annotation.get("PartOfGroup", "None")
        role = _role(group, parents)
        kind = annotation.get("Type", "Polygon")
        if kind.lower() not in _OUTLINES:
            dropped[f"{kind} is no outline"] += 1
            continue
        if role is None:
            unknown.add(group)
            dropped[f"group {group!r} is neither tumour nor hole"] += 1
            continue
        points = _corners(kind, _points(annotation, path))
        if len(np.unique(points, axis=0)) < _FEWEST_POINTS:
            dropped["fewer than three distinct points"] += 1
            continue
        polygons.append(Polygon(annotation.get("Name", ""), role, points))
    if unknown and not polygons:
        raise InputError(
            f"has no group that is known as tumour or hole, only {', '.join(sorted(map(repr, unknown)))}",
            subject=path,
            remedy="rename the groups to Tumor and Exclusion in ASAP",
        )
    return Annotations(tuple(polygons), dict(dropped))


def tumour_mask(
    annotations: Annotations, shape: tuple[int, int], downsample_x: float, downsample_y: float
) -> npt.NDArray[np.uint8]:
    """Paint the tumour outlines, then cut out all holes, whatever their order in the file.

    Parameters
    ----------
    annotations
        Outlines in level-0 pixels; what lies outside the mask is clipped.
    shape
        (height, width) of the mask.
    downsample_x, downsample_y
        Level-0 pixels per mask pixel.

    Returns
    -------
    numpy.ndarray
        uint8, `shape`, 1 where the centre of the pixel lies in tumour, else 0.
    """
    scale = np.array([downsample_x, downsample_y])
    tumour = inside_any([polygon.points_level0_px / scale for polygon in annotations.of("tumour")], shape)
    holes = inside_any([polygon.points_level0_px / scale for polygon in annotations.of("hole")], shape)
    return (tumour & ~holes).astype(np.uint8)


def _parse(path: Path) -> Element:
    try:
        root = ElementTree.parse(path, forbid_dtd=True).getroot()
    except (DefusedXmlException, ParseError, OSError, ValueError, LookupError) as error:
        raise InputError(
            f"cannot be read as annotation XML ({type(error).__name__}: {error})",
            subject=path,
            remedy="save the annotations again as ASAP XML, or leave this file out",
        ) from error
    if root is None or root.tag != "ASAP_Annotations":
        raise InputError(
            "is XML, but no ASAP annotation file (its root is not ASAP_Annotations)",
            subject=path,
            remedy="export the annotations as ASAP XML",
        )
    return root


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


def _points(annotation: Element, path: Path) -> npt.NDArray[np.float64]:
    """float64 (n, 2), in the order that the file states, the closing point left out."""
    where = f"{path} (annotation {annotation.get('Name', '?')!r})"
    rows = [
        (_order(coordinate, position), _number(coordinate, "X", where), _number(coordinate, "Y", where))
        for position, coordinate in enumerate(annotation.iter("Coordinate"))
    ]
    if len({order for order, _, _ in rows}) == len(rows):
        rows.sort()
    points = np.array([(x, y) for _, x, y in rows], dtype=np.float64).reshape(-1, 2)
    closed = len(points) > 1 and bool((points[0] == points[-1]).all())
    return points[:-1] if closed else points


def _order(coordinate: Element, position: int) -> int:
    order = coordinate.get("Order", "")
    return int(order) if order.isdecimal() else position


def _number(coordinate: Element, axis: str, where: str) -> float:
    text = coordinate.get(axis, "")
    try:
        # Written under a locale with decimal commas; thousands separators never occur in these files.
        value = float(text.replace(",", ".") if text.count(",") == 1 and "." not in text else text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise InputError(
            f"has the coordinate {axis}={text!r}, which is no finite number",
            subject=where,
            remedy="correct or delete this annotation in ASAP: without it, tumour would count as normal tissue",
        )
    return value


def _corners(kind: str, points: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    if kind.lower() == "rectangle" and len(points) == 2:
        (left, top), (right, bottom) = points
        return np.array([(left, top), (right, top), (right, bottom), (left, bottom)])
    return points


def _touches(polygon: Polygon, width_px: int, height_px: int) -> bool:
    low, high = polygon.points_level0_px.min(axis=0), polygon.points_level0_px.max(axis=0)
    return bool((high > 0).all() and low[0] < width_px and low[1] < height_px)
