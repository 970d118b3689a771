"""Outlines of a mask along the edges of its pixels: painted again, they give the mask bit for bit."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tasks.errors import InputError

Points = npt.NDArray[np.float64]
Keys = npt.NDArray[np.int64]

# Bounds for masks that are noise; at 8 µm a pixel, the outlines of an annotation have some ten thousand edges.
_MOST_EDGES = 1 << 21
_MOST_RINGS = 1 << 16
_BAND_PX = 1 << 22

# Directions of an edge, each a quarter turn clockwise from the one before; y points down.
_RIGHT, _DOWN, _LEFT, _UP = range(4)


@dataclass(frozen=True, slots=True)
class _Edges:
    """Directed pixel edges with the mask on their right, sorted by where they start.

    Attributes
    ----------
    start
        int64 (n,): y * stride + x of the corner that the edge leaves.
    direction
        int64 (n,): 0 to 3.
    stride
        Corners in a row: columns of the mask and one more.
    """

    start: Keys
    direction: Keys
    stride: int


def trace(mask: npt.NDArray[np.bool_], source: str) -> list[tuple[Points, ...]]:
    """Outline the regions of a mask.

    Pixels that touch at a corner only belong to two regions, so that no outline touches itself from inside.

    Parameters
    ----------
    mask
        bool, shape (height, width).
    source
        What an error is about.

    Returns
    -------
    list
        A region each: its outline, then those of its holes; float64 (n, 2), x, y of the corners in mask pixels,
        where pixel (row i, column j) lies between (j, i) and (j + 1, i + 1).

    Raises
    ------
    InputError
        The mask is noise: it has more outline, or more pieces, than any annotation.
    """
    edges = _edges(mask, source)
    rings, ring_of = _rings(edges, source)
    owners: list[int] = []
    regions: dict[int, list[Points]] = {}
    lefts = np.flatnonzero(edges.direction == _UP)
    # An edge that runs up starts at the lower corner of its pixel.
    left_keys = edges.start[lefts] - edges.stride
    for number, ring in enumerate(rings):
        first = ring[0]
        owner = number
        if edges.direction[first] == _DOWN:
            # A hole: the run of mask pixels that ends at its first edge begins at another edge of the same region,
            # which lies above or left of it and therefore has an owner already.
            owner = owners[ring_of[lefts[np.searchsorted(left_keys, edges.start[first]) - 1]]]
        owners.append(owner)
        regions.setdefault(owner, []).append(_corners(edges, ring))
    return [tuple(region) for region in regions.values()]


def _edges(mask: npt.NDArray[np.bool_], source: str) -> _Edges:
    stride = mask.shape[1] + 1
    keys = np.concatenate([np.empty(0, np.int64), *_bands(mask, stride, source)])
    keys.sort()
    return _Edges(keys >> 2, keys & 3, stride)


def _bands(mask: npt.NDArray[np.bool_], stride: int, source: str) -> Iterator[Keys]:
    """Yield start * 4 + direction of all edges, band by band."""
    height, width = mask.shape
    band = max(1, _BAND_PX // stride)
    count = 0
    for top in range(0, height, band):
        bottom = min(height, top + band)
        padded = np.zeros((bottom - top + 2, width + 2), bool)
        above, below = max(0, top - 1), min(height, bottom + 1)
        padded[above - top + 1 : below - top + 1, 1:-1] = mask[above:below]
        own = padded[1:-1, 1:-1]
        for outside, direction, dy, dx in (
            (padded[:-2, 1:-1], _RIGHT, 0, 0),
            (padded[1:-1, 2:], _DOWN, 0, 1),
            (padded[2:, 1:-1], _LEFT, 1, 1),
            (padded[1:-1, :-2], _UP, 1, 0),
        ):
            rows, columns = np.nonzero(own & ~outside)
            count += len(rows)
            if count > _MOST_EDGES:
                raise InputError(
                    f"is a mask with more than {_MOST_EDGES} pixel edges of outline, which is noise, not an annotation",
                    subject=source,
                    remedy="check that this file is the mask of the slide's tumour",
                )
            yield ((rows + top + dy) * stride + columns + dx) * 4 + direction


def _rings(edges: _Edges, source: str) -> tuple[list[npt.NDArray[np.int64]], npt.NDArray[np.int32]]:
    """Follow the edges: the edges of each closed ring in their order, and the ring of each edge.

    A ring begins with its first edge in sorted order, at its uppermost corner; the rings are sorted by it.
    """
    successor = _successor(edges).tolist()
    seen = bytearray(len(successor))
    ring_of = np.empty(len(successor), np.int32)
    rings: list[npt.NDArray[np.int64]] = []
    for first in range(len(successor)):
        if seen[first]:
            continue
        if len(rings) == _MOST_RINGS:
            raise InputError(
                f"is a mask in more than {_MOST_RINGS} pieces, which is noise, not an annotation",
                subject=source,
                remedy="check that this file is the mask of the slide's tumour",
            )
        ring = []
        edge = first
        while not seen[edge]:
            seen[edge] = True
            ring.append(edge)
            edge = successor[edge]
        rings.append(np.array(ring, np.int64))
        ring_of[rings[-1]] = len(rings) - 1
    return rings, ring_of


def _successor(edges: _Edges) -> Keys:
    """Index of the edge that follows each edge; where two leave a corner, the one that turns right."""
    start, direction = edges.start, edges.direction
    if not len(start):
        return np.empty(0, np.int64)
    steps = np.array([1, edges.stride, -1, -edges.stride])
    end = start + steps[direction]
    first = np.searchsorted(start, end)
    second = np.minimum(first + 1, len(start) - 1)
    turns_right = (start[second] == end) & (direction[second] == (direction + 1) % 4)
    successor: Keys = np.where(turns_right, second, first).astype(np.int64)
    return successor


def _corners(edges: _Edges, ring: npt.NDArray[np.int64]) -> Points:
    """Where the ring turns, float64 (n, 2)."""
    direction = edges.direction[ring]
    corner = edges.start[ring[direction != np.roll(direction, 1)]]
    return np.column_stack([corner % edges.stride, corner // edges.stride]).astype(np.float64)
