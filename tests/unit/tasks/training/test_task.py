from __future__ import annotations

from typing import Any

import pytest

from tasks.train_config import TrainConfig
from tasks.training import task
from tasks.training.task import epoch_line, progress_of

EPOCH = {"event": "epoch", "epoch": 2, "epochs": 4, "loss": 0.5, "validation_auc": 0.9, "patches_per_s": 80.4}


def test_progress_goes_on_within_an_epoch() -> None:
    step = {"event": "step", "epoch": 2, "step": 5, "steps": 10, "patches_per_s": 12.3}
    assert progress_of(step, 4) == (37.5, "epoch 2/4, step 5/10, 12 patches/s")
    assert progress_of(EPOCH, 4) == (50.0, "epoch 2/4: loss 0.500, validation AUC 0.900, 80 patches/s")
    assert progress_of({"event": "queue", "job": "7", "reason": "Resources"}, 4) == (
        0.0,
        "Slurm job 7 waits (Resources)",
    )
    assert progress_of({"event": "trained"}, 4) is None


def test_an_epoch_tells_what_share_of_it_waited_for_input() -> None:
    assert epoch_line(EPOCH | {"seconds": 20.0, "waiting_s": 1.0}).endswith("80 patches/s, 5 % waiting for input")


def test_an_epoch_tells_which_shards_it_had_while_others_arrive() -> None:
    arriving = {"shards": 3, "shards_expected": 5, "validation_complete": False}
    assert epoch_line(EPOCH | arriving).endswith("0.900 (not all of its patches), 80 patches/s, 3 of 5 shards")
    assert epoch_line(EPOCH | {"shards": 5, "shards_expected": 5, "validation_complete": True}) == epoch_line(EPOCH)
    waiting = {"event": "waiting", "epoch": 3, "shards": 3, "why": "the last epochs need all shards"}
    assert progress_of(waiting, 4) == (50.0, "epoch 3/4 waits: the last epochs need all shards")


@pytest.mark.parametrize("away_from", ["create_progress_artifact", "update_progress_artifact"])
def test_a_training_goes_on_without_the_server(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, away_from: str
) -> None:
    asked: list[str] = []

    def answer(*arguments: Any, **options: Any) -> str:  # noqa: ANN401  # as the client's
        return "id"

    def away(*arguments: Any, **options: Any) -> str:  # noqa: ANN401  # as the client's
        asked.append(away_from)
        raise OSError("no route")

    monkeypatch.setattr(task, "create_progress_artifact", answer)
    monkeypatch.setattr(task, "update_progress_artifact", answer)
    monkeypatch.setattr(task, away_from, away)
    caplog.set_level("INFO", task.__name__)
    told = task._Told(TrainConfig(epochs=4), ranks=2)
    told(EPOCH | {"waiting_s": 1.0, "seconds": 2.0})
    told.show(100.0, "done")
    assert len(asked) == (1 if away_from.startswith("create") else 2)
    assert "the Prefect server was not told: no route" in caplog.text
    assert "epoch 2/4: loss 0.500" in caplog.text
