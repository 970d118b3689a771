from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tasks.errors import InputError
from tasks.slides.annotations import Annotations, Polygon, read_annotations
from tasks.slides.geojson import from_geojson, to_geojson

SQUARE = [[0, 0], [9, 0], [9, 9], [0, 9], [0, 0]]
HOLE = [[2, 2], [4, 2], [4, 4], [2, 2]]


def collection(*features: dict[str, object]) -> str:
    return json.dumps({"type": "FeatureCollection", "features": features})


def feature(kind: str, coordinates: object, name: str = "Tumor") -> dict[str, object]:
    return {
        "type": "Feature",
        "geometry": {"type": kind, "coordinates": coordinates},
        "properties": {"classification": {"name": name}},
    }


def test_outlines_survive_the_round_trip(real_data: Path) -> None:
    made = read_annotations(real_data / "camelyon" / "xml" / "tumor_107.groups_0_2.xml")
    found = from_geojson(to_geojson(made))
    assert [one.role for one in found.polygons] == [one.role for one in made.polygons]
    for one, other in zip(found.polygons, made.polygons, strict=True):
        assert (one.points_level0_px == other.points_level0_px).all()


def test_features_are_what_qupath_expects() -> None:
    made = Annotations((Polygon("a", "hole", np.array([(0.0, 0.5), (4.0, 0.0), (4.0, 4.0)])),))
    (one,) = json.loads(to_geojson(made))["features"]
    assert one["geometry"] == {"type": "Polygon", "coordinates": [[[0, 0.5], [4, 0], [4, 4], [0, 0.5]]]}
    assert one["properties"]["objectType"] == "annotation"
    assert one["properties"]["classification"]["name"] == "Exclusion"


def test_inner_rings_are_holes() -> None:
    found = from_geojson(collection(feature("MultiPolygon", [[SQUARE, HOLE], [HOLE]]), feature("Polygon", [SQUARE])))
    assert [one.role for one in found.polygons] == ["tumour", "hole", "tumour", "tumour"]


def test_other_features_are_counted() -> None:
    found = from_geojson(collection(feature("Polygon", [SQUARE], "Stroma"), feature("Point", [1, 2])))
    assert found.polygons == ()
    assert found.dropped == {"class 'Stroma' is neither tumour nor hole": 1, "Point is no outline": 1}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        '{"features": 3}',
        collection(feature("Polygon", [SQUARE[:-1]])),
        collection(feature("Polygon", [[["a", "b"]] * 4])),
        collection(feature("Polygon", [[[1]] * 4])),
        collection(feature("Polygon", [[[0, 0], [1, 0], [float("nan"), 1], [0, 0]]])),
    ],
)
def test_what_is_no_geojson_is_refused(text: str) -> None:
    with pytest.raises(InputError, match=r"outlines\.json"):
        from_geojson(text, source="outlines.json")
