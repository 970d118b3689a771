from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.slides.winding import inside_any

Points = npt.NDArray[np.float64]
Lattice = list[tuple[int, int]]

# Corners lie on a lattice of 1/STEPS px, exact in binary, so that the reference can count in whole numbers: where an
# edge passes through a pixel's centre, angles or quotients of floats say one thing or the other by their rounding.
STEPS = 64
ON_THE_OUTLINE = None


def winding_number(corners: Lattice, x: int, y: int) -> int | None:
    """Turns of the outline around the lattice point (x, y), or ON_THE_OUTLINE."""
    turns = 0
    for (x0, y0), (x1, y1) in zip(corners, corners[1:] + corners[:1], strict=True):
        side = (x1 - x0) * (y - y0) - (y1 - y0) * (x - x0)
        if side == 0 and min(x0, x1) <= x <= max(x0, x1) and min(y0, y1) <= y <= max(y0, y1):
            return ON_THE_OUTLINE
        if y0 <= y < y1 and side > 0:
            turns += 1
        if y1 <= y < y0 and side < 0:
            turns -= 1
    return turns


outlines = st.lists(
    st.tuples(st.integers(-4 * STEPS, 20 * STEPS), st.integers(-4 * STEPS, 20 * STEPS)), min_size=3, max_size=9
)


@given(outlines)
def test_every_pixel_is_as_its_centre_also_where_the_outline_crosses_itself(corners: Lattice) -> None:
    mask = inside_any([np.array(corners) / STEPS], (14, 17))
    for i, j in np.ndindex(mask.shape):
        turns = winding_number(corners, j * STEPS + STEPS // 2, i * STEPS + STEPS // 2)
        # A centre on the outline belongs to one side or the other; neighbours decide alike (see below).
        assert turns is ON_THE_OUTLINE or mask[i, j] == (turns != 0)


def test_an_outline_without_an_inside_marks_nothing() -> None:
    there_and_back = np.array([(0.0, 0.0), (0.0, 0.0), (5.0, 5.0)])
    assert not inside_any([there_and_back], (5, 5)).any()


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
