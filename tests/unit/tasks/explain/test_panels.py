from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tasks.explain.panels import PatchPanel, draw_panels, top_rows
from tests.services.scored_slide import PATCH_PX, make_scores


@pytest.fixture
def panel() -> PatchPanel:
    random = np.random.default_rng(0)
    heat = np.linspace(0, 1, 64 * 64, dtype=np.float32).reshape(64, 64)
    pixels = random.integers(0, 256, (64, 64, 3)).astype(np.uint8)
    return PatchPanel(12_345, 678, 0.987, 1, pixels, heat, heat, heat[::-1].copy(), -0.5)


def test_the_highest_scored_patches_do_not_overlap() -> None:
    # Half-overlapping grid: the four best are neighbours of each other.
    steps = np.arange(0, 10 * PATCH_PX // 2, PATCH_PX // 2)
    x, y = (part.ravel() for part in np.meshgrid(steps, steps))
    probability = np.exp(-((x - 64) ** 2 + (y - 64) ** 2) / 5000)
    scores = make_scores(x, y, probability, stride_px=PATCH_PX / 2)
    rows = top_rows(scores, 5)
    assert len(rows) == 5
    assert rows[0] == int(np.argmax(probability))
    assert (np.diff(probability[rows]) <= 0).all()
    for i, row in enumerate(rows):
        for other in rows[:i]:
            assert abs(x[row] - x[other]) >= PATCH_PX or abs(y[row] - y[other]) >= PATCH_PX


def test_neighbours_that_only_touch_are_both_taken_and_ties_keep_the_order_of_the_file() -> None:
    x = np.arange(0, 5 * PATCH_PX, PATCH_PX)
    scores = make_scores(x, np.zeros(5, np.int64), np.array([0.5, 0.9, 0.9, 0.9, 0.1]))
    assert top_rows(scores, 4) == [1, 2, 3, 0]
    assert top_rows(scores, 9) == [1, 2, 3, 0, 4]
    assert top_rows(scores, 0) == []


def test_the_picture_grows_with_the_patches(panel: PatchPanel, tmp_path: Path) -> None:
    heights = []
    for count in (1, 2, 4):
        draw_panels(tmp_path / "a.png", "patient_004_node_4", "stage3_relu2", [panel] * count)
        with Image.open(tmp_path / "a.png") as image:
            assert image.width == 1100
            heights.append(image.height)
    assert heights[2] - heights[1] == pytest.approx(2 * (heights[1] - heights[0]), abs=3)


def test_an_empty_map_is_called_so(panel: PatchPanel, tmp_path: Path) -> None:
    empty = np.zeros((64, 64), np.float32)
    draw_panels(tmp_path / "none.png", "a", "b", [replace(panel, gradcam=empty, random_correlation=None)])
    draw_panels(tmp_path / "tiny.png", "a", "b", [replace(panel, gradcam=empty + 1e-9, random_correlation=None)])
    with Image.open(tmp_path / "none.png") as none, Image.open(tmp_path / "tiny.png") as tiny:
        differ = (np.asarray(none.convert("RGB")) != np.asarray(tiny.convert("RGB"))).any(-1)
    # The words lie on the second of four pictures and nowhere else.
    columns = np.nonzero(differ.any(0))[0]
    assert len(columns) > 50
    assert 400 < columns.min() < columns.max() < 650


def test_the_same_panels_give_the_same_bytes(panel: PatchPanel, tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        draw_panels(tmp_path / name, "patient_004_node_4", "stage3_relu2", [panel])
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
