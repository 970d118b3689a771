"""Trainings of two real ranks that are killed and told to stop: they go on as if nothing had been."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from tasks.errors import ExitCode, RetryableFault
from tasks.importance_config import ImportanceConfig
from tasks.train_config import TrainConfig
from tasks.training.card import ModelCard
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
    silence_s=120,
    importance=ImportanceConfig(by="loss"),
)
Event = dict[str, Any]


def trained(shards: list[ShardOfJob], output: Path, on_progress: Callable[[Event], None]) -> ModelCard:
    return train(CONFIG, shards, output, ranks=2, seed=4, key="key-1", on_progress=on_progress)


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


def interrupted(shards: list[ShardOfJob], output: Path, epoch: int, number: signal.Signals) -> RetryableFault:
    """Train until an epoch is told, send a signal to one rank, and give the error that this ends with."""
    sent: list[int] = []

    def watch(event: Event) -> None:
        if event["event"] == "epoch" and event["epoch"] == epoch and not sent:
            process = rank_processes(output.parent)[-1]
            sent.append(process.pid)
            process.send_signal(number)

    with pytest.raises(RetryableFault) as raised:
        trained(shards, output, watch)
    assert ranks_of(output.parent) == []
    assert not output.exists()
    return raised.value


def test_a_killed_training_goes_on_and_a_damaged_checkpoint_falls_back(
    shards: list[ShardOfJob], undisturbed: tuple[ModelCard, list[Event]], tmp_path: Path
) -> None:
    card, log = undisturbed
    output = tmp_path / "model"
    assert "died without a word" in str(interrupted(shards, output, 3, signal.SIGKILL))
    kept = sorted((tmp_path / ".model.checkpoints").glob("*.h5"))
    assert len(kept) == 2
    content = bytearray(kept[-1].read_bytes())
    content[len(content) // 2] ^= 1
    kept[-1].write_bytes(content)
    events: list[Event] = []
    again = trained(shards, output, events.append)
    assert again.weights_digest == card.weights_digest
    assert again.metrics == card.metrics
    assert (again.epochs_run, again.best_epoch) == (card.epochs_run, card.best_epoch)
    [refused] = [event for event in events if event["event"] == "checkpoint-refused"]
    assert refused["cause"] == f"{kept[-1].stem} is damaged"
    [resumed] = [event for event in events if event["event"] == "resumed"]
    before = int(re.sub(r"\D", "", kept[0].stem))
    assert (resumed["checkpoint"], resumed["epoch"], resumed["step"]) == (before, before + 1, 1)
    assert log_of(output) == events
    assert curves(events) == curves(log)
    steps, losses = zip(*read_scalars(output / "tensorboard")["epoch/loss"], strict=True)
    assert list(steps) == list(range(1, CONFIG.epochs + 1))
    assert list(losses) == pytest.approx([event["loss"] for event in log if event["event"] == "epoch"])
    assert not (tmp_path / ".model.checkpoints").exists()


def test_ranks_killed_within_an_epoch_go_on_at_its_last_checkpoint(
    shards: list[ShardOfJob], undisturbed: tuple[ModelCard, list[Event]], tmp_path: Path
) -> None:
    card, log = undisturbed
    output = tmp_path / "model"
    config = CONFIG.model_copy(update={"checkpoint_minutes": 1e-6})
    seen: list[Event] = []

    def kill_all(event: Event) -> None:
        seen.append(event)
        if event["event"] == "checkpoint" and event["epoch"] == 3:
            for process in rank_processes(tmp_path):
                process.send_signal(signal.SIGKILL)

    with pytest.raises(RetryableFault, match="died without a word"):
        train(config, shards, output, ranks=2, seed=4, key="key-1", on_progress=kill_all)
    told = next(event for event in seen if event["event"] == "checkpoint" and event["epoch"] == 3)
    [steps, *_] = [event["steps"] for event in log if event["event"] == "epoch"]
    assert 0 < told["step"] < steps
    events: list[Event] = []
    again = train(CONFIG, shards, output, ranks=2, seed=4, key="key-1", on_progress=events.append)
    [resumed] = [event for event in events if event["event"] == "resumed"]
    assert resumed["checkpoint"] >= told["number"]
    assert again.weights_digest == card.weights_digest
    assert again.metrics == card.metrics
    assert curves(events) == curves(log)


LAUNCHER = """
import sys
from pathlib import Path
from tasks.errors import CamNetError
from tests.integration.test_training_interruptions import trained
from tests.services.texture_shards import texture_cohort

folder = Path(sys.argv[1])
try:
    trained(texture_cohort(folder / "same shards"), folder / "model", lambda event: print(event["event"], flush=True))
except CamNetError as error:
    print(error)
    sys.exit(error.exit_code)
"""


def test_a_training_that_is_told_to_stop_goes_on_at_the_next_step(
    shards: list[ShardOfJob], undisturbed: tuple[ModelCard, list[Event]], tmp_path: Path
) -> None:
    card, log = undisturbed
    output = tmp_path / "model"
    error = interrupted(shards, output, 2, signal.SIGUSR1)
    assert error.exit_code == ExitCode.RETRY_LATER
    places = [place_of(str(error))]
    assert places[0][0] >= 3
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, "-c", LAUNCHER, str(tmp_path)]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as launcher:
        assert launcher.stdout is not None
        assert any(line == "resumed\n" for line in launcher.stdout)
        launcher.send_signal(signal.SIGTERM)
        places.append(place_of(launcher.stdout.read()))
    assert launcher.returncode == ExitCode.RETRY_LATER
    assert places[1] > places[0]
    assert ranks_of(tmp_path) == []
    events: list[Event] = []
    again = trained(shards, output, events.append)
    assert [(one["epoch"], one["step"]) for one in events if one["event"] == "resumed"] == places
    assert [(one["epoch"], one["step"] + 1) for one in events if one["event"] == "stopped"] == places
    assert again.weights_digest == card.weights_digest
    assert curves(log_of(output)) == curves(log)


def place_of(text: str) -> tuple[int, int]:
    found = re.search(
        r"was stopped \(.*\) and has written a checkpoint\..* it goes on at epoch (\d+), step (\d+)", text
    )
    assert found is not None, text
    return int(found[1]), int(found[2])
