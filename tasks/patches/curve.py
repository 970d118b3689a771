"""An order in which neighbours on the slide are neighbours in the file, at every scale."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]

_SPREAD = (
    (16, 0x0000FFFF0000FFFF),
    (8, 0x00FF00FF00FF00FF),
    (4, 0x0F0F0F0F0F0F0F0F),
    (2, 0x3333333333333333),
    (1, 0x5555555555555555),
)


def curve_order(x_px: Ints, y_px: Ints, side_px: int) -> Ints:
    """Sort patches along a Z-order curve through squares of their size.

    Any stretch of rows then lies in a compact part of the slide, so that rows that are read together share tiles.
    Patches in the same square keep their order.

    Parameters
    ----------
    x_px, y_px
        Top left corners, (n,), 0 to 2^31.

    Returns
    -------
    NDArray[np.int64]
        The positions in the order of the curve.
    """
    return np.argsort(_spread(x_px // side_px) | _spread(y_px // side_px) << np.uint64(1), kind="stable")


def _spread(numbers: Ints) -> NDArray[np.uint64]:
    """Put a zero between the bits of each number."""
    bits = numbers.astype(np.uint64)
    for shift, mask in _SPREAD:
        bits = (bits | bits << np.uint64(shift)) & np.uint64(mask)
    return bits
