from __future__ import annotations

import json
import socket
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from tasks.errors import InputError
from tasks.slides.annotation_files import read_annotations
from tasks.slides.annotations import Annotations, Polygon, tumour_mask
from tasks.slides.asap import CAMELYON16_GROUPS, CAMELYON17_FIRST_GROUPS, CAMELYON17_GROUPS, to_asap_xml

SQUARE = [(10, 10), (50, 10), (50, 50), (10, 50)]
HOLE = [(20, 20), (30, 20), (30, 30), (20, 30)]


def annotation(points: Sequence[tuple[object, object]], group: str = "Tumor", kind: str = "Polygon") -> str:
    inner = "".join(f'<Coordinate Order="{order}" X="{x}" Y="{y}" />' for order, (x, y) in enumerate(points))
    return (
        f'<Annotation Name="a" Type="{kind}" PartOfGroup="{group}" Color="#F4FA58">'
        f"<Coordinates>{inner}</Coordinates></Annotation>"
    )


def write(folder: Path, *annotations: str, groups: str = "") -> Path:
    path = folder / "slide.xml"
    path.write_text(
        '<?xml version="1.0"?><ASAP_Annotations><Annotations>'
        + "".join(annotations)
        + f"</Annotations><AnnotationGroups>{groups}</AnnotationGroups></ASAP_Annotations>"
    )
    return path


def mask(annotations: Annotations, side: int = 60, downsample: float = 1) -> np.ndarray:
    return tumour_mask(annotations, (side, side), downsample, downsample)


@pytest.mark.parametrize("group", ["_0", "_1", "Tumor", "tumor", "metastases", "Metastases", "None"])
def test_tumour_groups(tmp_path: Path, group: str) -> None:
    assert mask(read_annotations(write(tmp_path, annotation(SQUARE, group)))).sum() == 1600


@pytest.mark.parametrize("group", ["_2", "Exclusion", "exclusion", "normal"])
@pytest.mark.parametrize("hole_first", [True, False])
def test_holes_are_cut_out_whatever_the_order(tmp_path: Path, group: str, hole_first: bool) -> None:
    parts = [annotation(SQUARE), annotation(HOLE, group)]
    found = mask(read_annotations(write(tmp_path, *(parts[::-1] if hole_first else parts))))
    assert found.sum() == 1600 - 100
    assert not found[20:30, 20:30].any()


def test_the_mask_is_zero_and_one(tmp_path: Path) -> None:
    found = mask(read_annotations(write(tmp_path, annotation(SQUARE), annotation(SQUARE))))
    assert found.dtype == np.uint8
    assert set(np.unique(found)) == {0, 1}


def test_sub_groups_count_as_the_group_they_are_part_of(tmp_path: Path) -> None:
    groups = '<Group Name="ducts" PartOfGroup="Tumor" /><Group Name="Tumor" PartOfGroup="None" />'
    path = write(tmp_path, annotation(SQUARE, "ducts"), groups=groups)
    assert mask(read_annotations(path)).sum() == 1600


def test_other_groups_are_counted(tmp_path: Path) -> None:
    groups = (
        '<Group Name="fat" PartOfGroup="None" /><Group Name="x" PartOfGroup="y" /><Group Name="y" PartOfGroup="x" />'
    )
    path = write(tmp_path, annotation(SQUARE), annotation(SQUARE, "fat"), annotation(SQUARE, "x"), groups=groups)
    found = read_annotations(path)
    assert len(found.polygons) == 1
    assert found.dropped == {
        "group 'fat' is neither tumour nor hole": 1,
        "group 'x' is neither tumour nor hole": 1,
    }


def test_a_file_with_unknown_groups_only_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="only 'fat', 'nerve'"):
        read_annotations(write(tmp_path, annotation(SQUARE, "nerve"), annotation(SQUARE, "fat")))


@pytest.mark.parametrize("kind", ["Polygon", "Spline", "Rectangle"])
def test_outlines(tmp_path: Path, kind: str) -> None:
    assert mask(read_annotations(write(tmp_path, annotation(SQUARE, kind=kind)))).sum() == 1600


def test_a_rectangle_may_be_two_corners(tmp_path: Path) -> None:
    path = write(tmp_path, annotation([(10, 10), (50, 50)], kind="Rectangle"))
    assert mask(read_annotations(path)).sum() == 1600


@pytest.mark.parametrize("kind", ["Dot", "PointSet"])
def test_points_are_counted(tmp_path: Path, kind: str) -> None:
    found = read_annotations(write(tmp_path, annotation(SQUARE), annotation([(1, 1)], kind=kind)))
    assert len(found.polygons) == 1
    assert found.dropped == {f"{kind} is no outline": 1}


@pytest.mark.parametrize("points", [[], [(1, 1)], [(1, 1), (5, 5), (1, 1)], [(1, 1)] * 5])
def test_outlines_without_area_are_counted(tmp_path: Path, points: list[tuple[object, object]]) -> None:
    found = read_annotations(write(tmp_path, annotation(SQUARE), annotation(points)))
    assert len(found.polygons) == 1
    assert found.dropped == {"fewer than three distinct points": 1}


@pytest.mark.parametrize("number", ["nan", "inf", "-inf", "", "12px", "1,234.5", "1,2,3"])
def test_a_coordinate_that_is_no_number_is_an_error(tmp_path: Path, number: str) -> None:
    with pytest.raises(InputError, match=r"slide\.xml \(annotation 'a'\): has the coordinate Y="):
        read_annotations(write(tmp_path, annotation([*SQUARE[:3], (1, number)])))


def test_decimal_commas(tmp_path: Path) -> None:
    path = write(tmp_path, annotation([("10,5", "10"), (50, "10,0"), (50, 50)]))
    assert read_annotations(path).polygons[0].points_level0_px.tolist() == [[10.5, 10], [50, 10], [50, 50]]


def test_points_are_in_the_stated_order_and_not_closed_twice(tmp_path: Path) -> None:
    text = annotation([*SQUARE, SQUARE[0]]).replace('Order="1"', 'Order="x"').replace('Order="2"', 'Order="1"')
    path = write(tmp_path, text.replace('Order="x"', 'Order="2"'))
    found = read_annotations(path).polygons[0].points_level0_px
    assert found.tolist() == [[10, 10], [50, 50], [50, 10], [10, 50]]


BOMB = '<!DOCTYPE a [<!ENTITY b "ha"><!ENTITY c "&b;&b;&b;&b;">]>'
QUADRATIC = f'<!DOCTYPE a [<!ENTITY b "{"ha" * 10_000}">]>'
PARAMETER = '<!DOCTYPE a [<!ENTITY % b SYSTEM "http://127.0.0.1:9/a.dtd"> %b;]>'


def external(target: Path) -> str:
    return f'<!DOCTYPE a [<!ENTITY b SYSTEM "{target.as_uri()}">]>'


@pytest.mark.parametrize(
    "text",
    [
        "",
        "no xml",
        "<ASAP_Annotations><Annotations>",
        "<ASAP_Annotations /><ASAP_Annotations />",
        "<Other />",
        '<ASAP_Annotations xmlns="http://example.org/asap" />',
        f"{BOMB}<ASAP_Annotations>&c;</ASAP_Annotations>",
        f"{QUADRATIC}<ASAP_Annotations>{'&b;' * 10_000}</ASAP_Annotations>",
        f"{PARAMETER}<ASAP_Annotations />",
        '<!DOCTYPE ASAP_Annotations SYSTEM "http://127.0.0.1:9/a.dtd"><ASAP_Annotations />',
        "<!DOCTYPE ASAP_Annotations><ASAP_Annotations />",
        '<?xml version="1.0" encoding="no-such-code"?><ASAP_Annotations />',
    ],
)
def test_files_that_are_no_plain_annotation_xml_are_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "slide.xml"
    path.write_text(text)
    with pytest.raises(InputError, match=r"slide\.xml") as caught:
        read_annotations(path)
    assert caught.value.remedy


def test_nothing_is_fetched_from_the_network(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        port = server.getsockname()[1]
        path = write(tmp_path, annotation(SQUARE))
        text = path.read_text()
        for at in (f'SYSTEM "http://127.0.0.1:{port}/a.dtd"', f'PUBLIC "a" "http://127.0.0.1:{port}/a.dtd"'):
            path.write_text(text.replace("<ASAP", f"<!DOCTYPE ASAP_Annotations {at}><ASAP", 1))
            with pytest.raises(InputError):
                read_annotations(path)
        with pytest.raises(BlockingIOError):
            server.accept()


def test_no_other_file_is_read(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("the canary")
    path = write(tmp_path, annotation(SQUARE, "&b;"))
    path.write_text(path.read_text().replace("<ASAP", f"{external(secret)}<ASAP", 1))
    with pytest.raises(InputError) as caught:
        read_annotations(path)
    assert "canary" not in str(caught.value)


@pytest.mark.parametrize("content", [b"\xff\xd8\xff\xe0 a picture", b"\x00" * 64])
def test_bytes_that_are_no_text_are_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "slide.xml"
    path.write_bytes(content)
    with pytest.raises(InputError, match="cannot be read as annotation XML"):
        read_annotations(path)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_byte_order_mark_says_how_the_file_is_written(tmp_path: Path, encoding: str) -> None:
    path = write(tmp_path, annotation(SQUARE))
    path.write_bytes(path.read_text().encode(encoding))
    assert mask(read_annotations(path)).sum() == 1600


def test_deep_nesting_does_no_harm(tmp_path: Path) -> None:
    path = tmp_path / "slide.xml"
    path.write_text("<ASAP_Annotations>" + "<a>" * 200_000 + "</a>" * 200_000 + "</ASAP_Annotations>")
    assert read_annotations(path).polygons == ()


def test_an_order_that_is_no_position_is_passed_over(tmp_path: Path) -> None:
    text = annotation(SQUARE).replace('Order="2"', f'Order="{"9" * 5000}"')
    assert mask(read_annotations(write(tmp_path, text))).sum() == 1600


def test_a_coordinate_of_an_annotation_that_is_not_used_does_not_matter(tmp_path: Path) -> None:
    found = read_annotations(write(tmp_path, annotation(SQUARE), annotation([("nan", "?")], kind="Dot")))
    assert found.dropped == {"Dot is no outline": 1}


def test_a_million_corners_that_cross_themselves(tmp_path: Path) -> None:
    """A drawing by hand has thousands; the tree of such a file would take gigabytes."""
    turns = np.linspace(0, 40 * np.pi, 1_000_000, endpoint=False)
    radius = 900 + 100 * np.sin(7.3 * turns)
    points = np.column_stack([1000 + radius * np.cos(turns), 1000 + radius * np.sin(turns)])
    path = tmp_path / "slide.xml"
    path.write_text(to_asap_xml(Annotations((Polygon("a", "tumour", points),))))
    found = read_annotations(path)
    assert found.polygons[0].points_level0_px.shape == (1_000_000, 2)
    painted = mask(found, 250, 8)
    assert painted[125, 125], "wound around twenty times, it has no void"
    assert 0.5 < painted.mean() < 0.8


def test_a_file_of_gigabytes_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "slide.xml"
    with path.open("wb") as file:
        file.truncate((1 << 30) + 1)
    with pytest.raises(InputError, match="bytes, more than"):
        read_annotations(path)


def test_no_annotations_are_no_tumour(tmp_path: Path) -> None:
    assert mask(read_annotations(write(tmp_path))).sum() == 0


@pytest.mark.parametrize("groups", [CAMELYON16_GROUPS, CAMELYON17_GROUPS, CAMELYON17_FIRST_GROUPS])
def test_written_xml_is_read_back(tmp_path: Path, groups: dict[str, str]) -> None:
    made = Annotations(
        (Polygon('<"a" & b>', "tumour", np.array(SQUARE) + 0.25), Polygon("b", "hole", np.array(HOLE) - 0.5))
    )
    path = tmp_path / "slide.xml"
    path.write_text(to_asap_xml(made, groups))  # type: ignore[arg-type]  # parametrised
    found = read_annotations(path)
    assert [(one.name, one.role) for one in found.polygons] == [('<"a" & b>', "tumour"), ("b", "hole")]
    for one, other in zip(found.polygons, made.polygons, strict=True):
        assert np.allclose(one.points_level0_px, other.points_level0_px)


def test_inner_outlines_are_written_without_losing_what_lies_in_them(tmp_path: Path) -> None:
    ring, hole, island = np.array(SQUARE, float), np.array(HOLE, float), np.array(HOLE, float) / 2 + 12.5
    made = Annotations((Polygon("a", "tumour", ring, (hole, hole[::-1] + 15)), Polygon("b", "tumour", island)))
    path = tmp_path / "slide.xml"
    path.write_text(to_asap_xml(made))
    found = read_annotations(path)
    assert (mask(found) == mask(made)).all()
    assert mask(found).sum() == 1600 - 100 - 100 + 25


@pytest.mark.parametrize("name", ["tumor_107", "tumor_081"])
def test_both_group_conventions_give_the_same_real_mask(real_data: Path, name: str) -> None:
    folder = real_data / "camelyon" / "xml"
    masks = [
        tumour_mask(read_annotations(folder / f"{name}.{groups}.xml"), (3500, 3500), 32, 32)
        for groups in ("groups_0_2", "groups_Tumor_Exclusion")
    ]
    assert masks[0].any()
    assert (masks[0] == masks[1]).all()


def test_the_holes_of_a_real_slide_are_no_tumour(real_data: Path) -> None:
    found = read_annotations(real_data / "camelyon" / "xml" / "tumor_107.groups_0_2.xml")
    assert (len(found.of("tumour")), len(found.of("hole"))) == (2, 3)
    low = np.min([one.points_level0_px.min(axis=0) for one in found.polygons], axis=0)
    shifted = Annotations(tuple(Polygon(p.name, p.role, p.points_level0_px - low) for p in found.polygons))
    side = 16
    high = np.max([one.points_level0_px.max(axis=0) for one in shifted.polygons], axis=0)
    shape = (int(high[1] // side) + 1, int(high[0] // side) + 1)
    mask_with = tumour_mask(shifted, shape, side, side)
    without = tumour_mask(Annotations(tuple(shifted.of("tumour"))), shape, side, side)
    holes = tumour_mask(
        Annotations(tuple(Polygon(p.name, "tumour", p.points_level0_px) for p in shifted.of("hole"))), shape, side, side
    )
    assert holes.sum() > 100
    assert not (mask_with & holes).any()
    assert int(mask_with.sum()) == int(without.sum()) - int((without & holes).sum())
    drawn = sum(shoelace(one.points_level0_px) for one in shifted.of("tumour"))
    assert without.sum() * side**2 == pytest.approx(drawn, rel=2e-3)


def shoelace(points: np.ndarray) -> float:
    x, y = points.T
    return float(abs(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))) / 2)


def test_real_xml_agrees_with_the_polygons_others_made_of_it(real_data: Path) -> None:
    found = read_annotations(real_data / "camelyon" / "xml" / "tumor_107.groups_0_2.xml")
    theirs = json.loads((real_data / "camelyon" / "ncrf_json" / "Tumor_107.json").read_text())
    ours = sorted(shoelace(one.points_level0_px) for one in found.of("tumour"))
    assert ours == pytest.approx(sorted(shoelace(np.array(one["vertices"])) for one in theirs["positive"]), rel=1e-2)


def test_the_mini_slide_has_three_lesions_and_a_hole(real_data: Path) -> None:
    found = read_annotations(real_data / "mini_camelyon" / "patient_004_node_4.xml")
    assert (len(found.of("tumour")), len(found.of("hole")), dict(found.dropped)) == (3, 1, {})
    centre = found.of("hole")[0].points_level0_px.mean(axis=0) / 32
    assert tumour_mask(found, (160, 192), 32, 32)[int(centre[1]), int(centre[0])] == 0
