from __future__ import annotations

from pathlib import Path

import pytest
import tensorflow as tf

from tasks.training.log import TrainingLog
from tasks.training.tensorboard import TensorBoardEvents
from tests.services.tensorboard_events import read_scalars


def test_each_number_of_an_epoch_is_there_at_once(tmp_path: Path) -> None:
    folder = tmp_path / "tensorboard"
    with TrainingLog(tmp_path / "log.jsonl", TensorBoardEvents(folder)) as log:
        log.write("start", architecture="CamNetSmall", ranks=2)
        log.write("epoch", epoch=1, epochs=2, loss=0.5, validation_auc=None, best=True)
        assert read_scalars(folder) == {"epoch/loss": [(1, 0.5)]}
        log.write("epoch", epoch=2, epochs=2, loss=0.25, validation_auc=0.75, best=False)
        assert read_scalars(folder) == {"epoch/loss": [(1, 0.5), (2, 0.25)], "epoch/validation_auc": [(2, 0.75)]}


def test_a_training_that_goes_on_adds_a_file(tmp_path: Path) -> None:
    for epoch in (1, 2):
        TensorBoardEvents(tmp_path)("epoch", {"epoch": epoch, "loss": 1 / epoch})
    assert len(list(tmp_path.iterdir())) == 2
    assert sorted(read_scalars(tmp_path)["epoch/loss"]) == [(1, 1.0), (2, 0.5)]


def test_a_folder_that_cannot_be_made_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(tf.errors.OpError):
        TensorBoardEvents(tmp_path / "file" / "tensorboard")("epoch", {"epoch": 1, "loss": 1.0})
