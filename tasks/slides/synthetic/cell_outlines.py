"""Outlines of sets of grid cells, along the borders of the cells."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import numpy.typing as npt

Points = npt.NDArray[np.float64]
Corner = tuple[int, int]

_DIRECTIONS = ((1, 0), (0, 1), (-1, 0), (0, -1))


def cell_outlines(cells: npt.NDArray[np.bool_]) -> tuple[list[Points], list[Points]]:
    """Trace the borders of a set of cells.

    Parameters
    ----------
    cells
        bool, shape (rows, columns).

    Returns
    -------
    outer, holes
        Closed outlines as float64 (n, 2), x and y in cells; only corners are kept. A cell that touches another by
        a corner alone has an outline of its own.
    """
    follow = _border_steps(np.pad(cells, 1))
    outer: list[Points] = []
    holes: list[Points] = []
    while follow:
        loop = _walk(follow)
        points = np.array(_corners_only(loop), dtype=np.float64) - 1
        x, y = points[:, 0], points[:, 1]
        turns_right = float(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))) > 0
        (outer if turns_right else holes).append(points)
    return outer, holes


def _border_steps(cells: npt.NDArray[np.bool_]) -> dict[Corner, list[int]]:
    """From each corner the directions of the border steps that have a cell on their right."""
    follow: dict[Corner, list[int]] = defaultdict(list)
    neighbours = ((0, -1), (1, 0), (0, 1), (-1, 0))
    starts = ((0, 0), (1, 0), (1, 1), (0, 1))
    for row, column in np.argwhere(cells):
        for direction, (right, down) in enumerate(neighbours):
            if not cells[row + down, column + right]:
                x, y = starts[direction]
                follow[int(column) + x, int(row) + y].append(direction)
    return follow


def _walk(follow: dict[Corner, list[int]]) -> list[Corner]:
    """Take one closed loop of steps out of `follow`; where two cells touch by a corner, turn right."""
    start = corner = min(follow)
    heading = follow[start][0]
    loop: list[Corner] = []
    while True:
        choices = follow[corner]
        heading = (heading + 1) % 4 if len(choices) > 1 and loop else choices[0]
        choices.remove(heading)
        if not choices:
            del follow[corner]
        loop.append(corner)
        dx, dy = _DIRECTIONS[heading]
        corner = (corner[0] + dx, corner[1] + dy)
        if corner == start and (start not in follow or (heading + 1) % 4 not in follow[start]):
            return loop


def _corners_only(loop: list[Corner]) -> list[Corner]:
    kept = []
    for index, point in enumerate(loop):
        (x0, y0), (x1, y1) = loop[index - 1], loop[(index + 1) % len(loop)]
        if (point[0] - x0, point[1] - y0) != (x1 - point[0], y1 - point[1]):
            kept.append(point)
    return kept
