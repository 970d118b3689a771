"""Three real ranks of which one is killed: the training goes on with the two that are left."""

from __future__ import annotations

import json
import math
import signal
from pathlib import Path
from typing import Any

import psutil
import pytest

from tasks.train_config import TrainConfig
from tasks.training.model_folder import read_model
from tasks.training.schedule import LearningRate
from tasks.training.train import train
from tests.services.endless_training import ranks_of
from tests.services.texture_shards import texture_cohort

# Checkpoints as often as the ranks talk about them, of 384 / (3 · 4) = 32 steps.
CONFIG = TrainConfig(
    architecture="CamNetSmall",
    epochs=2,
    batch_size=4,
    learning_rate=0.01,
    silence_s=400,
    min_ranks=2,
    checkpoint_minutes=1e-6,
)
ROWS = 384
Event = dict[str, Any]


def rank_process(folder: Path, rank: int) -> psutil.Process:
    """Find a rank by what horovodrun has told it."""
    processes = [psutil.Process(pid) for pid in ranks_of(folder)]
    [found] = [
        one for one in processes if one.environ().get("HOROVOD_RANK") == str(rank) and "python" in one.cmdline()[0]
    ]
    return found


@pytest.mark.slow
def test_a_training_goes_on_with_the_ranks_that_are_left(tmp_path: Path) -> None:
    output, events, killed = tmp_path / "model", list[Event](), list[Event]()

    def watch(event: Event) -> None:
        events.append(event)
        if event["event"] == "checkpoint" and event["epoch"] == 2 and not killed:
            # The one that writes.
            rank_process(tmp_path, 0).send_signal(signal.SIGKILL)
            killed.append(event)

    shards = texture_cohort(tmp_path / "shards", rows=ROWS // 4)
    card = train(CONFIG, shards, output, ranks=3, seed=4, key="key-1", on_progress=watch)
    assert ranks_of(tmp_path) == []
    [reset], [told] = card.resets, killed
    assert (reset.ranks_before, reset.ranks, reset.died, card.ranks) == (3, 2, (0,), 2)
    assert card.equal_weights_over_ranks
    assert read_model(output)[1] == card
    # What was kept is not done again: it goes on at the newest checkpoint that was told, or at one after it.
    assert reset.checkpoint is not None
    assert reset.checkpoint >= told["number"]
    assert (reset.epoch, reset.step) >= (2, told["step"] + 1)
    check_log(output, events, reset.step - 1)
    assert not (tmp_path / ".model.checkpoints").exists()


def check_log(output: Path, events: list[Event], steps_before: int) -> None:
    """Each epoch is told once, and the interrupted one has the steps that its rest needs with two ranks."""
    rows = [json.loads(line) for line in (output / "log.jsonl").read_text().splitlines()]
    kept = [row for row in rows if row["event"] not in ("step", "validation", "verify")]
    assert [event for event in events if event in kept] == kept
    first, second = (row for row in rows if row["event"] == "epoch")
    assert (first["epoch"], second["epoch"]) == (1, 2)
    assert first["steps"] == ROWS // 12
    assert second["steps"] == steps_before + math.ceil((ROWS - 12 * steps_before) / 8)
    of_two = LearningRate.of(CONFIG, ranks=2, steps_per_epoch=ROWS // 8)
    assert second["learning_rate"] == pytest.approx(of_two.at(2 * of_two.steps_per_epoch - 1))
    assert second["validation_auc"] > 0.9
