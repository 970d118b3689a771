from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from tasks.train_config import TrainConfig
from tasks.training.augment import PARAMETERS, apply_changes, draw_changes, no_changes

CONFIG = TrainConfig()
STILL = TrainConfig(augment_flips=False, augment_turns=False, augment_stain=0, augment_density=0)


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
    first = draw_changes(CONFIG, 1, epoch=2, rank=3, step=4, rows=16)
    assert np.array_equal(first, draw_changes(CONFIG, 1, epoch=2, rank=3, step=4, rows=16))
    others = [
        draw_changes(CONFIG, 0, epoch=2, rank=3, step=4, rows=16),
        draw_changes(CONFIG, 1, epoch=0, rank=3, step=4, rows=16),
        draw_changes(CONFIG, 1, epoch=2, rank=0, step=4, rows=16),
        draw_changes(CONFIG, 1, epoch=2, rank=3, step=0, rows=16),
    ]
    assert not any(np.array_equal(first, other) for other in others)


def test_stain_changes_are_mild_and_keep_white_nearly_white() -> None:
    changes = draw_changes(CONFIG, 5, epoch=1, rank=0, step=0, rows=64)
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
    drawn = draw_changes(CONFIG, 3, epoch=1, rank=0, step=0, rows=1000)[:, column]
    assert set(np.unique(drawn)) == {0.0, 1.0}
    assert 0.4 < drawn.mean() < 0.6


@pytest.mark.parametrize(("flips", "turns"), [(True, True), (True, False), (False, True), (False, False)])
def test_flips_and_turns_are_drawn_only_where_they_are_wanted(flips: bool, turns: bool) -> None:
    config = STILL.model_copy(update={"augment_flips": flips, "augment_turns": turns})
    changes = draw_changes(config, 0, epoch=1, rank=0, step=0, rows=200)
    patch = patches(1)[0]
    changed = np.rint(np.asarray(apply_changes(np.stack([patch] * 200), changes))).astype(np.uint8)
    turned = [np.rot90(patch, k) for k in range(4)] if turns else [patch]
    expected = [image for one in turned for image in ((one, one[::-1], one[:, ::-1]) if flips else (one,))]
    if flips and not turns:
        expected.append(patch[::-1, ::-1])
    assert {image.tobytes() for image in changed} == {image.tobytes() for image in expected}


def test_nothing_changes_without_ranges() -> None:
    assert np.array_equal(draw_changes(STILL, 3, epoch=2, rank=1, step=4, rows=9), no_changes(9))


@pytest.mark.parametrize(
    ("name", "columns", "middle", "largest"),
    [
        ("augment_stain", [3, 4, 5], 1, 0.4),
        ("augment_density", [6], 0, 0.3),
        ("augment_hue", [7], 0, 0.1),
        ("augment_saturation", [8], 1, 0.5),
        ("augment_brightness", [9], 1, 0.2),
    ],
)
def test_each_range_is_filled_and_kept(name: str, columns: list[int], middle: float, largest: float) -> None:
    drawn = draw_changes(STILL.model_copy(update={name: largest}), 0, epoch=1, rank=0, step=0, rows=2000)
    most = largest * 2 * np.pi if name == "augment_hue" else largest
    moved = drawn[:, columns] - middle
    assert 0.98 * most < moved.max() <= most * 1.0001
    assert -most * 1.0001 <= moved.min() < -0.98 * most
    others = [column for column in range(PARAMETERS) if column not in columns]
    assert np.array_equal(drawn[:, others], no_changes(2000)[:, others])


def test_hue_saturation_and_brightness_do_what_they_say() -> None:
    # Far enough from black and white that nothing is cut off.
    pixels = np.random.default_rng(1).integers(90, 160, (4, 12, 12, 3), dtype=np.uint8)
    changes = no_changes(4)
    changes[0, 7] = np.pi
    changes[1, 8] = 0
    changes[2, 9] = 1.2
    turned, gray, bright, same = np.asarray(apply_changes(pixels, changes))
    luma = np.array([0.299, 0.587, 0.114])
    np.testing.assert_allclose(gray, np.repeat((pixels[1] @ luma)[..., None], 3, axis=-1), atol=0.1)
    np.testing.assert_allclose(bright, pixels[2] * 1.2, rtol=1e-3)
    np.testing.assert_allclose(same, pixels[3], atol=0.05)
    # Half a circle: every colour becomes its opposite of the same luma.
    np.testing.assert_allclose(turned, 2 * (pixels[0] @ luma)[..., None] - pixels[0], atol=0.1)
