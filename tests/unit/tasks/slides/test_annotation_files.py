from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tasks.errors import InputError
from tasks.slides.annotation_files import read_annotations
from tasks.slides.annotations import Annotations, Polygon, tumour_mask
from tasks.slides.asap import to_asap_xml
from tasks.slides.geojson import to_geojson

SQUARE = np.array([(1.0, 1.0), (5.0, 1.0), (5.0, 5.0), (1.0, 5.0)])
DRAWN = Annotations((Polygon("a", "tumour", SQUARE),))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.xml", to_asap_xml(DRAWN)), ("a.XML", to_asap_xml(DRAWN)), ("a.geojson", to_geojson(DRAWN)),
        ("a.json", to_geojson(DRAWN)), ("a.tif.GeoJSON", to_geojson(DRAWN)),
    ],
)  # fmt: skip
def test_the_suffix_tells_the_format_and_the_source_is_the_file(tmp_path: Path, name: str, text: str) -> None:
    path = tmp_path / name
    path.write_text(text)
    found = read_annotations(path)
    assert tumour_mask(found, (8, 8), 1, 1).sum() == 16
    assert found.source == str(path)


@pytest.mark.parametrize("name", ["a.xml", "a.geojson", "a.json", "a_mask.tif", "a_mask.tiff"])
def test_a_file_that_is_gone_or_empty_is_named(tmp_path: Path, name: str) -> None:
    for make in (False, True):
        if make:
            (tmp_path / name).touch()
        with pytest.raises(InputError) as caught:
            read_annotations(tmp_path / name)
        assert caught.value.subject == str(tmp_path / name)
        assert caught.value.remedy


def test_another_suffix_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="in no annotation format") as caught:
        read_annotations(tmp_path / "a.svg")
    assert ".geojson" in str(caught.value.remedy)


def test_json_of_gigabytes_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.geojson"
    with path.open("wb") as file:
        file.truncate((1 << 27) + 1)
    with pytest.raises(InputError, match="bytes, more than"):
        read_annotations(path)


def test_what_is_left_out_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    data = json.loads(to_geojson(DRAWN))
    data["features"] += [{"type": "Feature", "geometry": {"type": "Point", "coordinates": [1, 2]}}] * 3
    path = tmp_path / "a.geojson"
    path.write_text(json.dumps(data))
    assert len(read_annotations(path).polygons) == 1
    assert f"{path}: 3 entries left out: Point is no outline" in caplog.text


def test_a_million_corners_of_geojson(tmp_path: Path) -> None:
    turns = np.linspace(0, 2 * np.pi, 1_000_000, endpoint=False)
    radius = 900 + 50 * np.sin(700 * turns)
    points = np.column_stack([1000 + radius * np.cos(turns), 1000 + radius * np.sin(turns)])
    path = tmp_path / "a.geojson"
    path.write_text(to_geojson(Annotations((Polygon("a", "tumour", points),))))
    found = read_annotations(path)
    assert (found.polygons[0].points_level0_px == points).all()
    area = tumour_mask(found, (250, 250), 8, 8).sum() * 64
    assert area == pytest.approx(np.pi * (900**2 + 50**2 / 2), rel=5e-3)
