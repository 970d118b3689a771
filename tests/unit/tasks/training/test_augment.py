from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from tasks.training.augment import apply_changes, draw_changes, no_changes


def patches(rows: int = 8) -> NDArray[np.uint8]:
    return np.random.default_rng(2).integers(0, 256, (rows, 12, 12, 3), dtype=np.uint8)


def test_no_changes_leave_the_pixels_alone() -> None:
    pixels = patches()
    np.testing.assert_allclose(np.asarray(apply_changes(pixels, no_changes(8))), pixels, atol=0.01)


def test_the_eight_symmetries_are_right_angle_turns_and_flips_without_repetition() -> None:
    patch = patches(1)[0]
    changes = no_changes(8)
    changes[:, :3] = [[a, b, c] for a in (0, 1) for b in (0, 1) for c in (0, 1)]
    changed = np.rint(np.asarray(apply_changes(np.stack([patch] * 8), changes))).astype(np.uint8)
    expected = {np.rot90(turned, k).tobytes() for turned in (patch, patch[:, ::-1]) for k in range(4)}
    assert {image.tobytes() for image in changed} == expected
    assert len(expected) == 8


def test_changes_are_drawn_from_seed_epoch_rank_and_step_alone() -> None:
    first = draw_changes(1, epoch=2, rank=3, step=4, rows=16)
    assert np.array_equal(first, draw_changes(1, epoch=2, rank=3, step=4, rows=16))
    others = [
        draw_changes(0, epoch=2, rank=3, step=4, rows=16),
        draw_changes(1, epoch=0, rank=3, step=4, rows=16),
        draw_changes(1, epoch=2, rank=0, step=4, rows=16),
        draw_changes(1, epoch=2, rank=3, step=0, rows=16),
    ]
    assert not any(np.array_equal(first, other) for other in others)


def test_stain_changes_are_mild_and_keep_white_nearly_white() -> None:
    changes = draw_changes(5, epoch=1, rank=0, step=0, rows=64)
    tissue = np.full((64, 12, 12, 3), (200, 140, 190), np.uint8)
    moved = np.asarray(apply_changes(tissue, changes))[:, 0, 0] - (200, 140, 190)
    assert 2 < np.abs(moved).max() < 40
    white = np.asarray(apply_changes(np.full((64, 12, 12, 3), 255, np.uint8), changes))
    assert white.min() > 235
    assert white.max() <= 255


def test_more_haematoxylin_makes_a_nucleus_darker_and_bluer() -> None:
    nucleus = np.full((2, 12, 12, 3), (110, 80, 160), np.uint8)
    changes = no_changes(2)
    changes[1, 3] = 1.15
    plain, stained = np.asarray(apply_changes(nucleus, changes))[:, 0, 0]
    assert np.all(stained < plain)
    assert stained[2] / stained[0] > plain[2] / plain[0]


@pytest.mark.parametrize("column", [0, 1, 2])
def test_each_symmetry_is_drawn_about_half_of_the_time(column: int) -> None:
    drawn = draw_changes(3, epoch=1, rank=0, step=0, rows=1000)[:, column]
    assert set(np.unique(drawn)) == {0.0, 1.0}
    assert 0.4 < drawn.mean() < 0.6
