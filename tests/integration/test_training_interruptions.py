"""A training of two real ranks that is killed and told to stop: it goes on as if nothing had been."""

from __future__ import annotations

import json
import os
import re
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from tasks.errors import ExitCode, RetryableFault
from tasks.importance_config import ImportanceConfig
from tasks.train_config import TrainConfig
from tasks.training.card import ModelCard
from tasks.training.checkpoint import CheckpointCard
from tasks.training.job import ShardOfJob
from tasks.training.train import train
from tests.services.endless_training import ranks_of
from tests.services.tensorboard_events import read_scalars
from tests.services.texture_shards import texture_cohort

pytestmark = pytest.mark.slow
# With dropout, momentum, augmentation, statistics that differ between the ranks in an epoch, two stages, and draws that
# follow the losses.
CONFIG = TrainConfig(
    architecture="CamNetSmall",
    head="dense",
    dropout=0.3,
    head_epochs=1,
    epochs=6,
    batch_size=8,
    learning_rate=0.005,
    silence_s=400,
    importance=ImportanceConfig(by="loss"),
)
Event = dict[str, Any]


def trained(
    shards: list[ShardOfJob], output: Path, on_progress: Callable[[Event], None], config: TrainConfig = CONFIG
) -> ModelCard:
    return train(config, shards, output, ranks=2, seed=4, key="key-1", on_progress=on_progress)


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> list[ShardOfJob]:
    return texture_cohort(tmp_path_factory.mktemp("cohort"), rows=160)


@pytest.fixture(scope="module")
def undisturbed(shards: list[ShardOfJob], tmp_path_factory: pytest.TempPathFactory) -> tuple[ModelCard, list[Event]]:
    """The model and the log of a training that nothing happens to."""
    output = tmp_path_factory.mktemp("undisturbed") / "model"
    card = trained(shards, output, lambda _: None)
    assert [path.name for path in output.parent.iterdir() if path.name.startswith(".")] == []
    return card, log_of(output)


def log_of(output: Path) -> list[Event]:
    return [json.loads(line) for line in (output / "log.jsonl").read_text().splitlines()]


def curves(log: list[Event]) -> list[tuple[object, ...]]:
    names = ("epoch", "loss", "validation_loss", "validation_auc", "learning_rate", "steps", "best")
    return [tuple(event[name] for name in names) for event in log if event["event"] == "epoch"]


def rank_processes(folder: Path) -> list[psutil.Process]:
    found = [psutil.Process(pid) for pid in ranks_of(folder)]
    return [process for process in found if process.cmdline()[:3] == [sys.executable, "-m", "tasks.training"]]


def ended_by(
    act: Callable[[Event], None], shards: list[ShardOfJob], output: Path, config: TrainConfig = CONFIG
) -> RetryableFault:
    """Train, and call `act` with each event; give the error that the training ends with."""
    with pytest.raises(RetryableFault) as raised:
        trained(shards, output, act, config)
    assert raised.value.exit_code == ExitCode.RETRY_LATER
    assert ranks_of(output.parent) == []
    assert not output.exists()
    return raised.value


def kill_within_the_third_epoch(shards: list[ShardOfJob], output: Path) -> None:
    """Kill all ranks when the epoch has two checkpoints; each is written when the ranks look for one."""
    inside: list[int] = []

    def kill_all(event: Event) -> None:
        if event["event"] == "checkpoint" and event["epoch"] == 3:
            inside.append(event["step"])
            if len(inside) == 2:
                for process in rank_processes(output.parent):
                    process.send_signal(signal.SIGKILL)

    error = ended_by(kill_all, shards, output, CONFIG.model_copy(update={"checkpoint_minutes": 1e-6}))
    assert "died without a word" in str(error)


def damage(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def test_a_training_that_is_killed_and_told_to_stop_goes_on_as_if_nothing_had_been(
    shards: list[ShardOfJob], undisturbed: tuple[ModelCard, list[Event]], tmp_path: Path
) -> None:
    card, log = undisturbed
    output = tmp_path / "model"
    kill_within_the_third_epoch(shards, output)
    # The card of a checkpoint is written last, and what is older goes after that: they may be killed in between.
    cards = sorted((tmp_path / ".model.checkpoints").glob("*.json"))
    kept = [path.with_suffix(".h5") for path in cards[-2:]]
    assert len(kept) == 2
    damage(kept[-1])
    before = read_card_of(kept[0])
    assert (before.epoch, before.step) >= (3, 1)

    def tell_the_launcher(event: Event) -> None:
        told.append(event)
        if event["event"] == "resumed":
            # Someone listens: else this would end the tests.
            assert signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL
            os.kill(os.getpid(), signal.SIGTERM)

    told: list[Event] = []
    place = place_of(str(ended_by(tell_the_launcher, shards, output)))
    [refused] = [event for event in told if event["event"] == "checkpoint-refused"]
    assert refused["cause"] == f"{kept[-1].stem} is damaged"
    [resumed] = [event for event in told if event["event"] == "resumed"]
    assert (resumed["checkpoint"], resumed["epoch"], resumed["step"]) == (before.number, before.epoch, before.step + 1)
    assert place >= (before.epoch, before.step + 1)

    events: list[Event] = []
    again = trained(shards, output, events.append)
    assert [(one["epoch"], one["step"]) for one in events if one["event"] == "resumed"][1:] == [place]
    assert [(one["epoch"], one["step"] + 1) for one in events if one["event"] == "stopped"] == [place]
    assert again.weights_digest == card.weights_digest
    assert again.metrics == card.metrics
    assert (again.epochs_run, again.best_epoch) == (card.epochs_run, card.best_epoch)
    assert again.resets == ()
    assert log_of(output) == events
    assert curves(events) == curves(log)
    steps, losses = zip(*read_scalars(output / "tensorboard")["epoch/loss"], strict=True)
    assert list(steps) == list(range(1, CONFIG.epochs + 1))
    assert list(losses) == pytest.approx([event["loss"] for event in log if event["event"] == "epoch"])
    assert not (tmp_path / ".model.checkpoints").exists()


def test_a_rank_that_is_told_to_stop_while_all_validate_stops_all_within_seconds(
    shards: list[ShardOfJob], tmp_path: Path
) -> None:
    *training, validation, _ = shards
    sent: list[float] = []

    def tell_one_rank(event: Event) -> None:
        if event["event"] == "validation" and not sent:
            sent.append(time.monotonic())
            rank_processes(tmp_path)[-1].send_signal(signal.SIGUSR1)

    # The same patches again and again: scoring them all would take much longer.
    config = CONFIG.model_copy(update={"head_epochs": 0, "batch_size": 1, "importance": ImportanceConfig()})
    long = [*training[:1], *[validation] * 300]
    error = ended_by(tell_one_rank, long, tmp_path / "model", config)
    assert time.monotonic() - sent[0] < 30
    [found] = (tmp_path / ".model.checkpoints").glob("*.h5")
    written = read_card_of(found)
    assert (written.epoch, written.step, written.best_epoch) == (1, 80, 0)
    assert place_of(str(error)) == (1, 81)


def read_card_of(arrays: Path) -> CheckpointCard:
    return CheckpointCard.model_validate_json(arrays.with_suffix(".json").read_bytes())


def place_of(text: str) -> tuple[int, int]:
    found = re.search(
        r"was stopped \(.*\) and has written a checkpoint\..* it goes on at epoch (\d+), step (\d+)", text
    )
    assert found is not None, text
    return int(found[1]), int(found[2])
