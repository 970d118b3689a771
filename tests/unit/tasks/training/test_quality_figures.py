from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageColor

from tasks.config import Split
from tasks.training.card import SplitMetrics
from tasks.training.metrics import Scores, split_metrics
from tasks.training.quality_figures import COLOURS, draw_reliability, draw_roc

Draw = Callable[..., None]


def measured(split: Split, *, one_class: bool = False) -> SplitMetrics:
    generator = np.random.default_rng(2)
    label = generator.integers(0, 2, 500).astype(np.int8)
    logit = generator.normal(size=500) + 2 * label
    patient = np.array([f"p{k % 7}" for k in range(500)])
    return split_metrics(Scores(logit, np.ones_like(label) if one_class else label, patient), split=split, seed=0)


def drawn(draw: Draw, path: Path, *metrics: SplitMetrics) -> NDArray[np.uint8]:
    draw(path, metrics, title="CamNetSmall")
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def has(picture: NDArray[np.uint8], split: Split) -> bool:
    return bool(np.any(np.all(picture == ImageColor.getrgb(COLOURS[split]), axis=-1)))


@pytest.mark.parametrize("draw", [draw_roc, draw_reliability])
def test_every_split_has_its_curve(draw: Draw, tmp_path: Path) -> None:
    both = drawn(draw, tmp_path / "both.png", measured("validation"), measured("test"))
    assert has(both, "validation")
    assert has(both, "test")
    assert not has(drawn(draw, tmp_path / "one.png", measured("test")), "validation")
    again = tmp_path / "again.png"
    drawn(draw, again, measured("test"))
    assert again.read_bytes() == (tmp_path / "one.png").read_bytes()


def test_what_is_not_there_is_not_drawn(tmp_path: Path) -> None:
    one_class = measured("test", one_class=True)
    assert not has(drawn(draw_roc, tmp_path / "roc.png", one_class), "test")
    assert has(drawn(draw_reliability, tmp_path / "reliability.png", one_class), "test")
    older = measured("test").model_copy(update={"roc": None, "calibration": None, "confusion": None})
    assert not has(drawn(draw_reliability, tmp_path / "older.png", older), "test")
    assert drawn(draw_roc, tmp_path / "nothing.png").shape == (672, 672, 3)
