"""Annotations as GeoJSON that QuPath opens, and back."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tasks.errors import InputError
from tasks.slides.annotations import Annotations, Points, Polygon, Role, checked_outline, has_area

_CLASSES: dict[Role, dict[str, Any]] = {
    "tumour": {"name": "Tumor", "color": [200, 0, 0]},
    "hole": {"name": "Exclusion", "color": [0, 120, 200]},
}
_ROLES: dict[str, Role] = {
    "tumor": "tumour",
    "tumour": "tumour",
    "metastasis": "tumour",
    "metastases": "tumour",
    "exclusion": "hole",
    "ignore*": "hole",
    "ignore": "hole",
    "normal": "hole",
}
# QuPath states one of these (before 0.4 as the feature's id); its cells and tiles carry classes, too.
_ANNOTATION_TYPES = {"annotation", "pathannotationobject"}
_OBJECT_IDS = "path"
_COLLECTION = "GeometryCollection"
_REMEDY = "export the annotations from QuPath as GeoJSON, or save them as a FeatureCollection of polygons"


@dataclass(frozen=True, slots=True)
class _Feature:
    """One feature: its name, its class (None: it has none), why it is no annotation, its shapes."""

    name: str
    group: str | None
    refusal: str
    shapes: list[Any]


def read_geojson(path: Path) -> Annotations:
    """Read a GeoJSON file; see `from_geojson`."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot be read ({error})", subject=path, remedy=_REMEDY) from error
    return from_geojson(text, source=str(path))


def to_geojson(annotations: Annotations) -> str:
    """Write the outlines as a FeatureCollection in level-0 pixels, one polygon with closed rings a feature."""
    features = [
        {
            "type": "Feature",
            "geometry": {"type": "Polygon", "coordinates": [_closed(ring) for ring in polygon.rings]},
            "properties": {
                "objectType": "annotation",
                "name": polygon.name,
                "classification": _CLASSES[polygon.role],
            },
        }
        for polygon in annotations.polygons
    ]
    return json.dumps({"type": "FeatureCollection", "features": features})


def from_geojson(text: str, *, source: str = "GeoJSON") -> Annotations:
    """Read outlines in level-0 pixels.

    A FeatureCollection, a list of features, one feature or a bare geometry. Polygons and multipolygons of the
    classes ``Tumor``, ``Tumour``, ``Metastasis`` and ``Metastases`` are tumour, those of ``Exclusion``,
    ``Ignore*`` and ``Normal`` are holes; of a derived class (``Tumor: Positive``) the first name counts. Inner
    rings are left out of their own polygon. Where not one feature has a class, as in plain GeoJSON, all are
    tumour. Other features are left out and counted, as are the cells and tiles of QuPath.

    Raises
    ------
    InputError
        The text is no GeoJSON, a ring is no list of finite points, or none of the classes is known.
    """
    features = [_feature(entry, source) for entry in _entries(_load(text, source), source)]
    plain = all(feature.group is None for feature in features if not feature.refusal)
    polygons: list[Polygon] = []
    dropped: Counter[str] = Counter()
    unknown: set[str] = set()
    for feature in features:
        role = "tumour" if plain else _role(feature.group)
        if feature.refusal:
            dropped[feature.refusal] += 1
        elif role is None:
            unknown.add(feature.group or "")
            dropped[f"class {feature.group or ''!r} is neither tumour nor hole"] += 1
        else:
            made = [_polygon(feature.name, role, shape, source) for shape in feature.shapes]
            polygons += [polygon for polygon in made if polygon is not None]
            dropped["fewer than three distinct points"] += made.count(None)
    if unknown and not polygons:
        raise InputError(
            f"has no class that is known as tumour or hole, only {', '.join(sorted(map(repr, unknown)))}",
            subject=source,
            remedy="name the classes Tumor and Exclusion in QuPath",
        )
    return Annotations(tuple(polygons), dict(+dropped), source)


def _closed(ring: Points) -> list[list[float]]:
    points: list[list[float]] = ring.tolist()
    return [*points, points[0]]


def _load(text: str, source: str) -> Any:  # noqa: ANN401  whatever JSON holds
    try:
        return json.loads(text)
    except RecursionError as error:
        raise InputError("is nested too deeply for GeoJSON", subject=source, remedy=_REMEDY) from error
    except ValueError as error:  # no JSON, or a number of thousands of digits
        raise InputError(f"is no JSON ({error})", subject=source, remedy=_REMEDY) from error


def _entries(data: Any, source: str) -> list[dict[str, Any]]:  # noqa: ANN401
    """Features or bare geometries, as a list."""
    if isinstance(data, dict) and data.get("type") == "FeatureCollection":
        data = data.get("features")
    entries = [data] if isinstance(data, dict) else data
    if not isinstance(entries, list) or not all(isinstance(entry, dict) and "type" in entry for entry in entries):
        raise InputError("is no GeoJSON", subject=source, remedy=_REMEDY)
    return entries


def _feature(entry: dict[str, Any], source: str) -> _Feature:
    if entry["type"] != "Feature":
        return _Feature("", None, *_shapes(entry, source))
    properties = _table(entry.get("properties"))
    identity = str(entry.get("id", ""))
    stated = str(properties.get("objectType") or (identity if identity.lower().startswith(_OBJECT_IDS) else ""))
    refusal, shapes = _shapes(_table(entry.get("geometry")), source)
    if stated and stated.lower() not in _ANNOTATION_TYPES:
        refusal = f"{stated} is no annotation"
    return _Feature(str(properties.get("name") or ""), _group(properties.get("classification")), refusal, shapes)


def _table(value: Any) -> dict[str, Any]:  # noqa: ANN401
    return value if isinstance(value, dict) else {}


def _group(classification: Any) -> str | None:  # noqa: ANN401
    """Name of the class: QuPath has written it as a name, a list of names, or a bare text."""
    if isinstance(classification, dict):
        names = classification.get("names")
        classification = names[0] if isinstance(names, list) and names else classification.get("name")
    return str(classification) if classification else None


def _role(group: str | None) -> Role | None:
    return _ROLES.get((group or "").split(":")[0].strip().lower())


def _shapes(geometry: dict[str, Any], source: str) -> tuple[str, list[Any]]:
    """Why the geometry is no outline ("" if it is one), and its polygons as lists of rings."""
    kind = geometry.get("type")
    if kind == _COLLECTION:
        parts = [_table(part) for part in _list(geometry.get("geometries"), source)]
        # One level: a collection in a collection is no outline, and could be nested without end.
        shapes = [shape for part in parts if part.get("type") != _COLLECTION for shape in _shapes(part, source)[1]]
        return ("" if shapes else f"{kind} is no outline"), shapes
    if kind not in ("Polygon", "MultiPolygon"):
        return f"{kind} is no outline", []
    coordinates = _list(geometry.get("coordinates"), source)
    return "", [coordinates] if kind == "Polygon" else [_list(shape, source) for shape in coordinates]


def _list(value: Any, source: str) -> list[Any]:  # noqa: ANN401
    if not isinstance(value, list):
        raise InputError("has a polygon that is no list of rings", subject=source, remedy=_REMEDY)
    return value


def _polygon(name: str, role: Role, shape: list[Any], source: str) -> Polygon | None:
    rings = [_points(ring, source) for ring in shape]
    if not rings or not has_area(rings[0]):
        return None
    return Polygon(name, role, rings[0], tuple(ring for ring in rings[1:] if has_area(ring)))


def _points(ring: Any, source: str) -> Points:  # noqa: ANN401
    """float64 (n, 2): the first two numbers of each position, the closing point left out (it may be missing)."""
    try:
        points = np.array(ring)
    except ValueError as error:
        raise InputError(f"has a ring that is no list of points ({error})", subject=source, remedy=_REMEDY) from error
    if not points.size:
        return np.empty((0, 2))
    if points.ndim != 2 or points.shape[1] < 2 or points.dtype.kind not in "if":
        raise InputError("has a ring that is no list of points", subject=source, remedy=_REMEDY)
    return checked_outline(points[:, :2].astype(np.float64), source)
