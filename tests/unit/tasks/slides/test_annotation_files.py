from __future__ import annotations

import functools
import io
import json
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st

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


@functools.cache
def sound(suffix: str) -> bytes:
    """A small annotation file of each kind."""
    if suffix == ".xml":
        return to_asap_xml(DRAWN).encode()
    if suffix == ".geojson":
        return to_geojson(DRAWN).encode()
    memory = io.BytesIO()
    mask = np.zeros((40, 40), np.uint8)
    mask[8:30, 5:20] = 255
    with tifffile.TiffWriter(memory) as file:
        for step in (1, 2):
            file.write(
                mask[::step, ::step], subfiletype=step - 1, tile=(16, 16), compression="lzw", photometric="minisblack"
            )
    return memory.getvalue()


edits = st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.binary(max_size=4), st.integers(0, 4)), max_size=4)


@given(st.sampled_from([".xml", ".geojson", ".tif"]), edits, st.floats(0, 1))
def test_a_damaged_file_is_read_or_refused_by_name_and_nothing_else(
    suffix: str, changes: list[tuple[float, bytes, int]], kept: float
) -> None:
    data = sound(suffix)
    for place, new, removed in changes:
        at = int(place * len(data))
        data = data[:at] + new + data[at + removed :]
    if kept < 0.5:
        data = data[: int(2 * kept * len(data))]
    with TemporaryDirectory() as folder:
        path = Path(folder) / f"a{suffix}"
        path.write_bytes(data)
        try:
            found = read_annotations(path)
        except InputError as error:
            assert str(path) in str(error.subject)  # noqa: PT017
            assert error.remedy  # noqa: PT017
        else:
            tumour_mask(found, (40, 40), 1, 1)
