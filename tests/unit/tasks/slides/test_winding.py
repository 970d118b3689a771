from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.slides.winding import inside_any

Points = npt.NDArray[np.float64]


def winding_number(points: Points, x: float, y: float) -> int:
    """Turns of the outline around (x, y), by summing the angles it is seen under."""
    seen = points - (x, y)
    angle = np.arctan2(seen[:, 1], seen[:, 0])
    steps = (np.diff(np.append(angle, angle[0])) + np.pi) % (2 * np.pi) - np.pi
    return round(float(steps.sum()) / (2 * np.pi))


def reference(points: Points, shape: tuple[int, int]) -> npt.NDArray[np.bool_]:
    rows, columns = shape
    return np.array([[winding_number(points, j + 0.5, i + 0.5) != 0 for j in range(columns)] for i in range(rows)])


# Coordinates that never lie on a pixel's centre, where inside and outside are a matter of taste.
coordinates = st.integers(-60, 300).map(lambda number: number / 13 + 0.003)
outlines = st.lists(st.tuples(coordinates, coordinates), min_size=3, max_size=9).map(np.array)


@settings(deadline=None)
@given(outlines)
def test_every_pixel_is_as_its_centre_also_where_the_outline_crosses_itself(points: Points) -> None:
    assert (inside_any([points], (14, 17)) == reference(points, (14, 17))).all()


def test_a_square_covers_whole_pixels_only_where_it_covers_their_centres() -> None:
    square = np.array([(1.0, 1.0), (4.0, 1.0), (4.0, 3.0), (1.0, 3.0)])
    mask = inside_any([square], (5, 6))
    assert mask.sum() == 6
    assert mask[1:3, 1:4].all()
    assert not inside_any([square * 0.1 + 1.6], (5, 6)).any()


def test_neighbours_that_share_an_edge_through_pixel_centres_do_not_overlap() -> None:
    left = np.array([(0.0, 0.0), (2.5, 0.0), (2.5, 5.0), (0.0, 5.0)])
    right = np.array([(2.5, 0.0), (5.0, 0.0), (5.0, 5.0), (2.5, 5.0)])
    both = inside_any([left], (5, 5)).astype(int) + inside_any([right], (5, 5))
    assert (both == 1).all()


def test_a_loop_drawn_twice_is_filled() -> None:
    square = np.array([(1.0, 1.0), (4.0, 1.0), (4.0, 4.0), (1.0, 4.0)])
    assert inside_any([np.vstack([square, square])], (5, 5)).sum() == 9


@pytest.mark.parametrize("turn", [1, -1])
def test_direction_and_order_do_not_matter(turn: int) -> None:
    one = np.array([(0.0, 0.0), (3.0, 0.0), (3.0, 3.0), (0.0, 3.0)])[::turn]
    two = one + 1
    mask = inside_any([one, two], (5, 5))
    assert mask.sum() == 9 + 9 - 4


def test_what_lies_outside_the_grid_is_clipped() -> None:
    huge = np.array([(-1e6, -1e6), (1e6, -1e6), (1e6, 1e6), (-1e6, 1e6)])
    assert inside_any([huge], (3, 4)).all()
    assert not inside_any([huge + 5e6], (3, 4)).any()
    assert not inside_any([], (3, 4)).any()
