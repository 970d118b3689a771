from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.slides.synthetic.cell_outlines import cell_outlines
from tasks.slides.synthetic.noise import periodic_texture, smooth_noise
from tasks.slides.synthetic.outlines import area, irregular_outline, longest_chord
from tasks.slides.winding import inside_any


@pytest.mark.parametrize("seed", range(10))
def test_an_outline_has_its_size_and_does_not_cross_itself(seed: int) -> None:
    outline = irregular_outline(np.random.default_rng(seed), 500.0, points=150, roughness=0.55)
    assert longest_chord(outline) == pytest.approx(500, rel=1e-4)
    angle = np.unwrap(np.arctan2(outline[:, 1], outline[:, 0]))
    assert abs(abs(angle[-1] - angle[0]) - 2 * np.pi) < 0.2
    assert (np.sign(np.diff(angle)) == np.sign(angle[-1] - angle[0])).all()
    covered = inside_any([outline + 300], (600, 600)).sum()
    assert covered == pytest.approx(area(outline), rel=0.01)


@given(st.integers(1, 7), st.integers(1, 7), st.integers(0, 10_000))
def test_cell_outlines_cover_exactly_the_cells(rows: int, columns: int, seed: int) -> None:
    cells = np.random.default_rng(seed).uniform(size=(rows, columns)) < 0.6
    outer, holes = cell_outlines(cells)
    painted = inside_any(outer, cells.shape) & ~inside_any(holes, cells.shape)
    islands = inside_any([o for o in outer if any(_in(o, hole) for hole in holes)], cells.shape)
    assert ((painted | (islands & cells)) == cells).all()
    count, _ = cv2.connectedComponents(cells.astype(np.uint8), connectivity=4)
    assert len(outer) == count - 1
    assert sum(map(area, outer)) - sum(map(area, holes)) == cells.sum()


def _in(outline: np.ndarray, other: np.ndarray) -> bool:
    inside = inside_any([other], (12, 12))
    own = inside_any([outline], (12, 12))
    return bool(own.any() and (own & inside).sum() == own.sum())


@pytest.mark.parametrize("scale", [1.0, 3.0, 12.0, 40.0])
def test_noise_has_unit_spread(scale: float) -> None:
    field = smooth_noise(np.random.default_rng(0), (400, 500), scale)
    assert field.shape == (400, 500)
    assert abs(float(field.mean())) < 0.35
    assert 0.5 < float(field.std()) < 1.3


def test_a_texture_repeats_without_a_seam() -> None:
    texture = periodic_texture(np.random.default_rng(0), 128, 12.0, 3.0, 0.7).astype(int)
    assert (texture[:128, :128] == texture[128:, 128:]).all()
    steps = np.abs(np.diff(texture[:, :256], axis=1)).mean(axis=0)
    assert steps[127] < 2 * steps.mean()
    assert texture.std() == pytest.approx(42, abs=3)
