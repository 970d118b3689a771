from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tasks.training.curves import draw_curves


def epoch(number: int, *, auc: float | None, best: bool) -> dict[str, Any]:
    return {
        "event": "epoch",
        "epoch": number,
        "loss": 0.7 / number,
        "validation_loss": None if auc is None else 0.8 / number,
        "validation_auc": auc,
        "learning_rate": 0.01 / number,
        "patches_per_s": 100.0 + number,
        "best": best,
    }


def drawn(path: Path, log: list[dict[str, Any]]) -> np.ndarray[Any, np.dtype[np.uint8]]:
    draw_curves(path, log, title="CamNetSmall")
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def has_colour(picture: np.ndarray[Any, np.dtype[np.uint8]], colour: tuple[int, int, int]) -> bool:
    return bool(np.any(np.all(picture == colour, axis=-1)))


def test_the_picture_shows_training_and_validation(tmp_path: Path) -> None:
    log = [{"event": "start"}, epoch(1, auc=0.6, best=True), epoch(2, auc=0.9, best=True), {"event": "trained"}]
    picture = drawn(tmp_path / "curves.png", log)
    assert picture.shape == (816, 1080, 3)
    training, validation = (0x00, 0x72, 0xB2), (0xD5, 0x5E, 0x00)
    for panel in (picture[:408, :540], picture[408:, :540], picture[408:, 540:]):
        assert has_colour(panel, training)
    assert has_colour(picture[:408, :540], validation)
    assert has_colour(picture[:408, 540:], validation)
    assert not has_colour(picture[408:], validation)


def test_without_validation_there_is_the_training_curve_alone(tmp_path: Path) -> None:
    picture = drawn(tmp_path / "curves.png", [epoch(1, auc=None, best=True), epoch(2, auc=None, best=True)])
    assert has_colour(picture, (0x00, 0x72, 0xB2))
    assert not has_colour(picture, (0xD5, 0x5E, 0x00))


def test_the_same_log_gives_the_same_bytes(tmp_path: Path) -> None:
    log = [epoch(1, auc=0.6, best=True)]
    drawn(tmp_path / "one.png", log)
    drawn(tmp_path / "two.png", log)
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()


def test_epochs_that_were_validated_on_a_part_are_shaded(tmp_path: Path) -> None:
    log = [epoch(1, auc=0.6, best=True), epoch(2, auc=0.9, best=True)]
    partly = [{**log[0], "validation_complete": False}, {**log[1], "validation_complete": True}]
    shade = [(grey,) * 3 for grey in (234, 235)]
    for told, expected in ((log, False), (partly, True)):
        picture = drawn(tmp_path / "curves.png", told)
        for panel in (picture[:408, :540], picture[:408, 540:]):
            assert any(np.mean(np.all(panel == grey, axis=-1)) > 0.05 for grey in shade) is expected
