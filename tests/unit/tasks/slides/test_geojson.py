from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tasks.errors import InputError
from tasks.slides.annotation_files import read_annotations
from tasks.slides.annotations import Annotations, Polygon, tumour_mask
from tasks.slides.geojson import from_geojson, to_geojson

SQUARE = [[0, 0], [9, 0], [9, 9], [0, 9], [0, 0]]
HOLE = [[2, 2], [4, 2], [4, 4], [2, 4], [2, 2]]
ISLAND = [[3, 3], [4, 3], [4, 4], [3, 4], [3, 3]]


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


def mask(annotations: Annotations) -> np.ndarray:
    return tumour_mask(annotations, (12, 12), 1, 1)


def test_inner_rings_are_left_out_of_their_own_polygon_only() -> None:
    alone = from_geojson(collection(feature("MultiPolygon", [[SQUARE, HOLE]])))
    assert [len(one.inner_level0_px) for one in alone.polygons] == [1]
    assert mask(alone).sum() == 81 - 4
    island = from_geojson(collection(feature("MultiPolygon", [[SQUARE, HOLE], [ISLAND]])))
    assert mask(island).sum() == 81 - 4 + 1
    both = from_geojson(collection(feature("Polygon", [SQUARE, HOLE]), feature("Polygon", [SQUARE])))
    assert mask(both).sum() == 81


def test_a_hole_with_an_inner_ring_leaves_that_as_it_is() -> None:
    found = from_geojson(collection(feature("Polygon", [SQUARE]), feature("Polygon", [HOLE, ISLAND], "Exclusion")))
    assert mask(found).sum() == 81 - 4 + 1


def test_inner_rings_survive_the_round_trip() -> None:
    made = from_geojson(collection(feature("Polygon", [SQUARE, HOLE, ISLAND])))
    found = from_geojson(to_geojson(made))
    assert [[ring.tolist() for ring in one.rings] for one in found.polygons] == [
        [ring.tolist() for ring in one.rings] for one in made.polygons
    ]


@pytest.mark.parametrize("name", ["Tumor", "tumour", "Metastasis", "METASTASES", "Tumor: Positive", " tumor "])
def test_classes_of_tumour(name: str) -> None:
    assert [one.role for one in from_geojson(collection(feature("Polygon", [SQUARE], name))).polygons] == ["tumour"]


@pytest.mark.parametrize("name", ["Exclusion", "Ignore*", "ignore", "Normal"])
def test_classes_of_holes(name: str) -> None:
    found = from_geojson(collection(feature("Polygon", [HOLE], name), feature("Polygon", [SQUARE])))
    assert [one.role for one in found.polygons] == ["hole", "tumour"]
    assert mask(found).sum() == 81 - 4


@pytest.mark.parametrize(
    "classification", [{"name": "Tumor", "colorRGB": -3670016}, {"names": ["Tumor", "Positive"]}, "Tumor"]
)
def test_classes_as_qupath_has_written_them(classification: object) -> None:
    one = feature("Polygon", [SQUARE]) | {"properties": {"classification": classification}}
    other = feature("Polygon", [SQUARE], "Stroma")
    assert len(from_geojson(collection(one, other)).polygons) == 1


PLAIN = {"type": "Polygon", "coordinates": [SQUARE]}


@pytest.mark.parametrize(
    "data",
    [
        PLAIN,
        {"type": "MultiPolygon", "coordinates": [[SQUARE]]},
        {"type": "GeometryCollection", "geometries": [{"type": "Point", "coordinates": [1, 2]}, PLAIN]},
        {"type": "Feature", "geometry": PLAIN, "properties": None},
        [{"type": "Feature", "geometry": PLAIN, "properties": {"classification": {"name": "Tumor"}}}],
        [PLAIN],
        {"type": "FeatureCollection", "features": [{"type": "Feature", "geometry": PLAIN}]},
    ],
)
def test_every_form_of_geojson(data: object) -> None:
    assert mask(from_geojson(json.dumps(data))).sum() == 81


def test_without_any_class_all_is_tumour_and_with_one_the_others_are_not() -> None:
    bare: dict[str, object] = {"type": "Feature", "geometry": PLAIN, "properties": {}}
    assert len(from_geojson(collection(bare, bare)).polygons) == 2
    found = from_geojson(collection(bare, feature("Polygon", [SQUARE])))
    assert len(found.polygons) == 1
    assert found.dropped == {"class '' is neither tumour nor hole": 1}


@pytest.mark.parametrize("stated", [{"properties": {"objectType": "detection"}}, {"id": "PathCellObject"}])
def test_cells_are_no_annotations(stated: dict[str, object]) -> None:
    cell = feature("Polygon", [SQUARE]) | stated
    found = from_geojson(collection(cell, feature("Polygon", [SQUARE]) | {"id": "PathAnnotationObject"}))
    assert len(found.polygons) == 1
    assert sum(found.dropped.values()) == 1


def test_a_feature_with_an_id_of_its_own_is_an_annotation() -> None:
    one = feature("Polygon", [SQUARE]) | {"id": "4f6b2c0e-0000-4000-8000-000000000000"}
    assert len(from_geojson(collection(one)).polygons) == 1


def test_other_features_are_counted() -> None:
    found = from_geojson(
        collection(
            feature("Polygon", [SQUARE]),
            feature("Polygon", [SQUARE], "Stroma"),
            feature("Point", [1, 2]),
            feature("Polygon", [[[1, 1], [2, 2], [1, 1]]]),
            feature("Polygon", []),
        )
    )
    assert len(found.polygons) == 1
    assert found.dropped == {
        "class 'Stroma' is neither tumour nor hole": 1,
        "Point is no outline": 1,
        "fewer than three distinct points": 2,
    }


def test_a_file_with_unknown_classes_only_is_an_error() -> None:
    with pytest.raises(InputError, match="only 'Necrosis', 'Stroma'"):
        from_geojson(collection(feature("Polygon", [SQUARE], "Stroma"), feature("Polygon", [SQUARE], "Necrosis")))


def test_rings_may_be_open_and_have_a_third_number() -> None:
    found = from_geojson(collection(feature("Polygon", [[[x, y, 7] for x, y in SQUARE[:-1]]])))
    assert found.polygons[0].points_level0_px.tolist() == SQUARE[:-1]


def nested(depth: int) -> str:
    return '{"type": "Polygon", "coordinates": ' + "[" * depth + "]" * depth + "}"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "7",
        "[7]",
        '{"features": 3}',
        '{"type": "FeatureCollection"}',
        '{"type": "FeatureCollection", "features": [[]]}',
        nested(100_000),
        nested(900),
        collection(feature("Polygon", 5)),
        collection(feature("Polygon", [5])),
        collection(feature("MultiPolygon", [5])),
        collection(feature("Polygon", ["abc"])),
        collection(feature("Polygon", [[["a", "b"]] * 4])),
        collection(feature("Polygon", [[["1", "2"]] * 4])),
        collection(feature("Polygon", [[[True, False]] * 4])),
        collection(feature("Polygon", [[[1]] * 4])),
        collection(feature("Polygon", [[[1, 2], [3]]])),
        collection(feature("Polygon", [[[0, 0], [1, 0], [float("nan"), 1], [0, 0]]])),
        collection(feature("Polygon", [[[0, 0], [1, 0], [float("inf"), 1], [0, 0]]])),
        collection(feature("Polygon", [[[0, 0], [1, 0], [1e300, 1], [0, 0]]])),
        collection(feature("Polygon", [[[0, 0], [1, 0], [10**30, 1], [0, 0]]])),
        collection(feature("Polygon", [[[0, 0], [1, 0]]])).replace("1, 0", "1" * 5000 + ", 0"),
    ],
)
def test_what_is_no_geojson_is_refused(text: str) -> None:
    with pytest.raises(InputError, match=r"outlines\.json") as caught:
        from_geojson(text, source="outlines.json")
    assert caught.value.remedy


def test_nested_collections_are_no_outlines() -> None:
    inner: object = PLAIN
    for _ in range(400):
        inner = {"type": "GeometryCollection", "geometries": [inner]}
    assert from_geojson(json.dumps(inner)).dropped == {"GeometryCollection is no outline": 1}


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "slide.geojson"
    path.write_bytes(b"\xff\xfe\x00\x81")
    with pytest.raises(InputError, match="cannot be read"):
        read_annotations(path)


def test_a_byte_order_mark_is_no_part_of_the_json(tmp_path: Path) -> None:
    path = tmp_path / "slide.geojson"
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps(PLAIN).encode())
    assert mask(read_annotations(path)).sum() == 81
