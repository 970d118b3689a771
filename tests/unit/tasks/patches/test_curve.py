from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tasks.patches.curve import curve_order
from tasks.patches.pieces import pieces_of
from tasks.slides.tile_grid import TileGrid

PLACES = st.lists(st.tuples(st.integers(0, 2**31 - 1), st.integers(0, 2**31 - 1)), max_size=40)


def interleaved(x: int, y: int) -> int:
    return sum((x >> bit & 1) << 2 * bit | (y >> bit & 1) << 2 * bit + 1 for bit in range(32))


@given(PLACES, st.integers(1, 1000))
def test_the_order_is_that_of_the_interleaved_bits(places: list[tuple[int, int]], side_px: int) -> None:
    x, y = np.array(places, np.int64).reshape(-1, 2).T
    keys = [interleaved(a // side_px, b // side_px) for a, b in places]
    assert curve_order(x, y, side_px).tolist() == sorted(range(len(places)), key=lambda place: keys[place])


def test_rows_that_are_read_together_share_more_tiles_than_row_by_row() -> None:
    grid = TileGrid(32768, 32768, 512, 512)
    steps = np.arange(0, 32768 - 224 + 1, 224)
    y, x = (values.ravel() for values in np.meshgrid(steps, steps, indexing="ij"))
    order = curve_order(x, y, 224)

    def tiles_a_patch(rows: np.ndarray) -> float:
        stretches = rows[: len(rows) // 64 * 64].reshape(-1, 64)
        return float(np.mean([len(np.unique(pieces_of(x[s], y[s], 224, grid).tile)) / 64 for s in stretches]))

    assert tiles_a_patch(order) < 0.45
    assert tiles_a_patch(np.arange(len(x))) > 0.6
