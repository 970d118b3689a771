from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.errors import InputError
from tasks.slides.annotation_files import read_annotations
from tasks.slides.annotations import Annotations, Polygon, Role, checked_outline, tumour_mask

Points = npt.NDArray[np.float64]
SQUARE = np.array([(10.0, 10.0), (50.0, 10.0), (50.0, 50.0), (10.0, 50.0)])
HOLE = np.array([(20.0, 20.0), (30.0, 20.0), (30.0, 30.0), (20.0, 30.0)])


def tumour(*outlines: Points) -> Annotations:
    return Annotations(tuple(Polygon("a", "tumour", points) for points in outlines))


def test_a_mask_may_be_coarser_in_one_direction() -> None:
    found = tumour_mask(tumour(SQUARE), (6, 12), 5, 10)
    assert found.sum() == 8 * 4
    assert found[1:5, 2:10].all()


def test_holes_win_over_tumour_and_inner_outlines_over_their_own_polygon_only() -> None:
    hole = Polygon("h", "hole", HOLE)
    with_inner = Polygon("a", "tumour", SQUARE, (HOLE,))
    over = Polygon("b", "tumour", HOLE + 5)

    def area(*polygons: Polygon) -> int:
        return int(tumour_mask(Annotations(polygons), (60, 60), 1, 1).sum())

    assert area(with_inner) == 1600 - 100
    assert area(with_inner, over) == area(over, with_inner) == 1600 - 100 + 25
    assert area(with_inner, over, hole) == area(hole, over, with_inner) == 1600 - 100


def test_polygons_outside_the_slide_are_counted_and_others_clipped() -> None:
    inside = tumour(SQUARE + np.array([1000, 0]), SQUARE - np.array([0, 50]), SQUARE - np.array([20, 0])).within(60, 60)
    assert inside.dropped == {"outside the slide": 2}
    assert tumour_mask(inside, (60, 60), 1, 1).sum() == 30 * 40
    assert inside.within(60, 60) is inside


def test_an_annotation_that_lies_outside_as_a_whole_is_of_another_slide() -> None:
    with pytest.raises(InputError, match="all lie outside") as caught:
        Annotations(tumour(SQUARE + 1000).polygons, source="a.xml").within(60, 60)
    assert caught.value.subject == "a.xml"
    hole = Annotations((Polygon("h", "hole", SQUARE + 1000),))
    assert hole.within(60, 60).dropped == {"outside the slide": 1}


def test_a_mask_of_another_size_is_of_another_slide() -> None:
    traced = Annotations(tumour(SQUARE).polygons, source="a_mask.tif", image_px=(60, 61))
    assert traced.within(60, 61) is traced
    with pytest.raises(InputError, match=r"a_mask\.tif: is a mask of 60 x 61 pixels, but its slide has 60 x 60"):
        traced.within(60, 60)


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf, 1.1e9])
def test_coordinates_that_are_no_positions_are_refused(wrong: float) -> None:
    with pytest.raises(InputError, match=r"a\.xml: has a coordinate"):
        checked_outline(np.vstack([SQUARE, [(1.0, wrong)]]), "a.xml")


def test_an_outline_of_kilometres_is_refused() -> None:
    scribble = np.tile([(0.0, 0.0), (2e5, 2e5)], (5000, 1))
    with pytest.raises(InputError, match="longer than"):
        checked_outline(scribble, "a.xml")
    assert len(checked_outline(scribble[:500], "a.xml")) == 500


def test_the_closing_point_is_left_out_once() -> None:
    assert len(checked_outline(np.vstack([SQUARE, SQUARE[:1]]), "a.xml")) == 4
    assert len(checked_outline(SQUARE, "a.xml")) == 4
    assert checked_outline(np.empty((0, 2)), "a.xml").shape == (0, 2)


# A rasteriser of its own: it counts in fractions, row by row, and paints by what each centre says. Where an edge passes
# through a centre, floating point numbers may say one thing or the other, and it says neither.
Exact = list[tuple[Fraction, Fraction]]
Mask = npt.NDArray[np.bool_]
HALF = Fraction(1, 2)


def exact(points: Points, downsample: float) -> Exact:
    return [(Fraction(x) / Fraction(downsample), Fraction(y) / Fraction(downsample)) for x, y in points.tolist()]


def wound(corners: Exact, shape: tuple[int, int], undecided: Mask) -> Mask:
    """Pixels whose centre the outline winds around, by the crossings of each row with the edges."""
    crossings: dict[int, list[tuple[Fraction, int]]] = {}
    for (x0, y0), (x1, y1) in zip(corners, corners[1:] + corners[:1], strict=True):
        low, high = min(y0, y1), max(y0, y1)
        for row in range(max(0, int(low) - 1), min(shape[0], int(high) + 2)):
            if low <= row + HALF < high:
                x = x0 + (row + HALF - y0) * (x1 - x0) / (y1 - y0)
                crossings.setdefault(row, []).append((x, 1 if y1 > y0 else -1))
    mask = np.zeros(shape, bool)
    for row, found in crossings.items():
        for column in range(shape[1]):
            mask[row, column] = sum(turn for x, turn in found if x < column + HALF) != 0
            undecided[row, column] |= any(x == column + HALF for x, _ in found)
    return mask


def agrees(painted: npt.NDArray[np.uint8], annotations: Annotations, downsample: float) -> bool:
    shape = (painted.shape[0], painted.shape[1])
    mask, undecided = np.zeros(shape, bool), np.zeros(shape, bool)
    for role, value in (("tumour", True), ("hole", False)):
        for polygon in annotations.polygons:
            if polygon.role == role:
                own, *inner = (wound(exact(ring, downsample), shape, undecided) for ring in polygon.rings)
                for ring in inner:
                    own &= ~ring
                mask[own] = value
    assert undecided.mean() < 0.1
    return bool((painted.astype(bool) == mask)[~undecided].all())


# Corners on a lattice of odd 1/64 px, so that none lies in the row of a pixel's centre at the downsamples below.
corner = st.tuples(st.integers(-200, 1200), st.integers(-200, 1200)).map(
    lambda point: ((2 * point[0] + 1) / 64, (2 * point[1] + 1) / 64)
)
ring = st.lists(corner, min_size=3, max_size=7).map(lambda points: np.array(points))


@st.composite
def polygons(draw: st.DrawFn) -> Polygon:
    role: Role = draw(st.sampled_from(["tumour", "tumour", "hole"]))
    return Polygon("a", role, draw(ring), tuple(draw(st.lists(ring, max_size=2))))


@given(st.lists(polygons(), max_size=4), st.sampled_from([1.0, 2.0, 4.0, 0.5]))
def test_the_mask_is_the_one_of_another_rasteriser(drawn: list[Polygon], downsample: float) -> None:
    made = Annotations(tuple(drawn))
    shape = (int(30 / downsample), int(26 / downsample))
    assert agrees(tumour_mask(made, shape, downsample, downsample), made, downsample)


@pytest.mark.parametrize("downsample", [16.0, 32.0026, 128.04])
@pytest.mark.parametrize("name", ["tumor_107.groups_0_2", "patient_004_node_4.Tumor"])
def test_masks_of_real_slides_are_exact_at_any_level(real_data: Path, name: str, downsample: float) -> None:
    found = read_annotations(real_data / "camelyon" / "xml" / f"{name}.xml")
    corners = np.vstack([one.points_level0_px for one in found.polygons])
    corner = np.floor(corners.min(axis=0)) - 3
    moved = Annotations(tuple(Polygon(p.name, p.role, p.points_level0_px - corner) for p in found.polygons))
    # The whole of a lesion at a coarse level, its upper left part at a fine one.
    extent = np.minimum(np.ceil((corners.max(axis=0) - corner) / downsample) + 2, 300).astype(int)
    shape = (int(extent[1]), int(extent[0]))
    painted = tumour_mask(moved, shape, downsample, downsample)
    assert painted.any()
    assert agrees(painted, moved, downsample)
