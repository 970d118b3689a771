from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.errors import InputError
from tasks.slides.trace import trace
from tasks.slides.winding import paint_inside

Mask = npt.NDArray[np.bool_]


@st.composite
def masks(draw: st.DrawFn) -> Mask:
    height, width = draw(st.integers(1, 14)), draw(st.integers(1, 14))
    rows = draw(st.lists(st.integers(0, 2**width - 1), min_size=height, max_size=height))
    return np.array([[row >> column & 1 for column in range(width)] for row in rows], bool)


def painted(regions: list[tuple[npt.NDArray[np.float64], ...]], shape: tuple[int, ...]) -> Mask:
    mask = np.zeros(shape, bool)
    for rings in regions:
        paint_inside(mask, rings, value=True)
    return mask


def area(points: npt.NDArray[np.float64]) -> float:
    x, y = points.T
    return float(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))) / 2


@given(masks())
def test_a_traced_mask_is_painted_again_bit_for_bit(mask: Mask) -> None:
    assert (painted(trace(mask, "m"), mask.shape) == mask).all()


@given(masks())
def test_regions_are_apart_and_their_area_is_that_of_their_pixels(mask: Mask) -> None:
    regions = trace(mask, "m")
    alone = [painted([rings], mask.shape) for rings in regions]
    assert np.sum(alone, axis=0).max(initial=0) <= 1
    assert len(regions) == cv2.connectedComponents(mask.astype(np.uint8), connectivity=4)[0] - 1
    for rings, one in zip(regions, alone, strict=True):
        assert sum(map(area, rings)) == one.sum()
        assert area(rings[0]) > 0
        assert all(area(ring) < 0 for ring in rings[1:])


@given(masks())
def test_outlines_have_corners_only(mask: Mask) -> None:
    for rings in trace(mask, "m"):
        for ring in rings:
            steps = np.diff(ring, axis=0, append=ring[:1])
            assert ((steps != 0).sum(axis=1) == 1).all(), "along the edges of pixels"
            assert ((steps != 0)[1:] != (steps != 0)[:-1]).all(), "every point is a turn"


def test_a_hole_belongs_to_the_region_around_it_and_an_island_is_one_of_its_own() -> None:
    mask = np.zeros((9, 9), bool)
    mask[1:8, 1:8] = True
    mask[2:7, 2:7] = False
    mask[4, 4] = True
    outer, island = trace(mask, "m")
    assert [len(outer), len(island)] == [2, 1]
    assert outer[0].tolist() == [[1, 1], [8, 1], [8, 8], [1, 8]]
    assert sorted(outer[1].tolist()) == [[2, 2], [2, 7], [7, 2], [7, 7]]
    assert sorted(island[0].tolist()) == [[4, 4], [4, 5], [5, 4], [5, 5]]


def test_pixels_that_touch_at_a_corner_are_two_regions() -> None:
    assert len(trace(np.eye(3, dtype=bool), "m")) == 3
    assert len(trace(~np.eye(3, dtype=bool), "m")) == 2


def test_a_mask_of_many_bands_is_traced_as_one(monkeypatch: pytest.MonkeyPatch) -> None:
    mask = np.random.default_rng(0).random((40, 30)) < 0.6
    whole = trace(mask, "m")
    monkeypatch.setattr("tasks.slides.trace._BAND_PX", 70)
    banded = trace(mask, "m")
    assert [[ring.tolist() for ring in rings] for rings in banded] == [
        [ring.tolist() for ring in rings] for rings in whole
    ]


@pytest.mark.parametrize("mask", [np.zeros((0, 5), bool), np.zeros((3, 3), bool)])
def test_nothing_has_no_outline(mask: Mask) -> None:
    assert trace(mask, "m") == []


def test_noise_is_no_annotation() -> None:
    chess = np.indices((1500, 1500)).sum(axis=0) % 2 == 0
    with pytest.raises(InputError, match=r"m\.tif: is a mask with more than"):
        trace(chess, "m.tif")
    sparse = np.zeros((600, 600), bool)
    sparse[::2, ::2] = True
    with pytest.raises(InputError, match=r"m\.tif: is a mask in more than"):
        trace(sparse, "m.tif")
