from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.least_squares import nonnegative_least_squares


def test_positive_coefficients_are_those_of_plain_least_squares() -> None:
    generator = np.random.default_rng(0)
    design = generator.random((40, 3)) * [1, 1e6, 1e-6]
    wanted = design @ [2.0, 3e-6, 4e6] + generator.normal(0, 0.01, 40)
    plain = np.linalg.lstsq(design / [1, 1e6, 1e-6], wanted, rcond=None)[0] / [1, 1e6, 1e-6]
    assert nonnegative_least_squares(design, wanted) == pytest.approx(plain, rel=1e-6)


def test_what_would_be_negative_is_nought_and_the_rest_is_fitted_again() -> None:
    design = np.array([[1.0, 1.0], [1.0, 2.0], [1.0, 4.0]])
    assert nonnegative_least_squares(design, np.array([-1.0, 1.0, 5.0])) == pytest.approx([0.0, 21 / 21])
    assert nonnegative_least_squares(design, np.array([5.0, 5.0, 2.0])) == pytest.approx([4.0, 0.0])
    assert nonnegative_least_squares(design, np.array([-1.0, -1.0, -1.0])).tolist() == [0.0, 0.0]


def test_a_column_of_zeros_and_equal_columns_are_no_trouble() -> None:
    design = np.array([[0.0, 1.0, 1.0], [0.0, 2.0, 2.0]])
    found = nonnegative_least_squares(design, np.array([3.0, 6.0]))
    assert found[0] == 0
    assert found[1] + found[2] == pytest.approx(3)


numbers = st.floats(-100, 100).map(lambda value: round(value, 3))


@given(st.integers(1, 5), st.integers(1, 12), st.data())
def test_no_step_in_an_allowed_direction_makes_it_better(columns: int, rows: int, data: st.DataObject) -> None:
    """The conditions of Karush, Kuhn and Tucker: they hold for the best x and for no other residual."""
    row = st.lists(numbers, min_size=columns, max_size=columns)
    design = np.array(data.draw(st.lists(row, min_size=rows, max_size=rows)))
    wanted = np.array(data.draw(st.lists(numbers, min_size=rows, max_size=rows)))
    x = nonnegative_least_squares(design, wanted)
    lengths = np.maximum(np.linalg.norm(design, axis=0), 1e-300)
    gain = (design.T @ (wanted - design @ x)) / lengths
    scale = 1e-6 * max(1.0, float(np.linalg.norm(wanted)))
    assert (x >= 0).all()
    assert (gain <= scale).all()
    assert (np.abs(gain[x * lengths > scale]) <= scale).all()
