from __future__ import annotations

import numpy as np
import pytest

from tasks.patches.filters import white_and_black_fraction


def grey(*values: int) -> np.ndarray:
    return np.repeat(np.array([values], np.uint8)[..., None], 3, axis=2)


def test_white_is_above_the_level() -> None:
    assert white_and_black_fraction(grey(199, 200, 201, 255), 200) == (0.5, 0.0)
    assert white_and_black_fraction(grey(255), 255) == (0.0, 0.0)


def test_black_is_below_ten() -> None:
    assert white_and_black_fraction(grey(0, 9, 10, 255), 255) == (0.0, 0.5)


@pytest.mark.parametrize(("colour", "white"), [((255, 255, 0), 1.0), ((0, 255, 255), 0.0), ((255, 0, 255), 0.0)])
def test_the_colour_order_is_rgb(colour: tuple[int, int, int], white: float) -> None:
    # Yellow has the gray value 226, cyan 179: were red and blue exchanged, cyan would be the white one.
    assert white_and_black_fraction(np.full((4, 4, 3), colour, np.uint8), 200) == (white, 0.0)
