"""Annotations as GeoJSON that QuPath opens, and back."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import numpy.typing as npt

from tasks.errors import InputError
from tasks.slides.annotations import Annotations, Polygon, Role

_CLASSES: dict[Role, dict[str, Any]] = {
    "tumour": {"name": "Tumor", "color": [200, 0, 0]},
    "hole": {"name": "Exclusion", "color": [0, 120, 200]},
}
_ROLES: dict[str, Role] = {"tumor": "tumour", "tumour": "tumour", "metastases": "tumour", "exclusion": "hole"}
_FEWEST_RING_POINTS = 4


def to_geojson(annotations: Annotations) -> str:
    """Write the outlines as a FeatureCollection in level-0 pixels, one closed ring a feature."""
    features = [
        {
            "type": "Feature",
            "geometry": {"type": "Polygon", "coordinates": [_ring(polygon)]},
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

    Polygons and multipolygons classified ``Tumor`` are tumour and their inner rings holes; those classified
    ``Exclusion`` are holes. Other features are left out and counted.

    Raises
    ------
    InputError
        The text is no FeatureCollection, or a ring is no list of finite points.
    """
    polygons: list[Polygon] = []
    dropped: dict[str, int] = {}
    for feature in _features(text, source):
        properties = feature.get("properties") or {}
        geometry = feature.get("geometry") or {}
        name = str((properties.get("classification") or {}).get("name", ""))
        role = _ROLES.get(name.lower())
        shapes = _shapes(geometry)
        if role is None or not shapes:
            reason = f"class {name!r} is neither tumour nor hole" if shapes else f"{geometry.get('type')} is no outline"
            dropped[reason] = dropped.get(reason, 0) + 1
            continue
        for shape in shapes:
            for index, ring in enumerate(shape):
                points = _points(ring, source)
                polygons.append(Polygon(str(properties.get("name", "")), role if index == 0 else "hole", points))
    return Annotations(tuple(polygons), dropped)


def _ring(polygon: Polygon) -> list[list[float]]:
    points: list[list[float]] = polygon.points_level0_px.tolist()
    return [*points, points[0]]


def _features(text: str, source: str) -> list[dict[str, Any]]:
    remedy = "export the annotations from QuPath as a GeoJSON FeatureCollection"
    try:
        data = json.loads(text)
    except json.JSONDecodeError as error:
        raise InputError(f"is no JSON ({error})", subject=source, remedy=remedy) from error
    features = data.get("features") if isinstance(data, dict) else None
    if not isinstance(features, list) or not all(isinstance(feature, dict) for feature in features):
        raise InputError("is no FeatureCollection", subject=source, remedy=remedy)
    return features


def _shapes(geometry: dict[str, Any]) -> list[Any]:
    coordinates = geometry.get("coordinates") or []
    if geometry.get("type") == "Polygon":
        return [coordinates]
    return list(coordinates) if geometry.get("type") == "MultiPolygon" else []


def _points(ring: Any, source: str) -> npt.NDArray[np.float64]:  # noqa: ANN401  whatever JSON holds
    try:
        points = np.array([[float(point[0]), float(point[1])] for point in ring])
    except (TypeError, ValueError, IndexError) as error:
        raise InputError(f"has a ring that is no list of points ({error})", subject=source) from error
    if len(points) < _FEWEST_RING_POINTS or not np.isfinite(points).all() or (points[0] != points[-1]).any():
        raise InputError("has a ring that is not closed, or not finite", subject=source, remedy="export it again")
    return points[:-1]
