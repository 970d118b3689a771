"""Two real ranks that train while shards arrive, and that see hard patches more often."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tasks.train_config import TrainConfig
from tasks.training.card import ModelCard
from tasks.training.checkpoint import newest_checkpoint, read_arrays
from tasks.training.expected import ExpectedShard, expected_shard
from tasks.training.importance import importance_draws
from tasks.training.job import ShardOfJob
from tasks.training.train import train
from tests.services.texture_shards import TextureShard, balanced, texture, write_pixels_shard, write_texture_shard

pytestmark = pytest.mark.slow
Event = dict[str, Any]
ROWS = 160
CONFIG = TrainConfig.model_validate(
    {
        "architecture": "CamNetSmall",
        "epochs": 5,
        "batch_size": 4,
        "accumulate_steps": 2,
        "learning_rate": 0.01,
        "silence_s": 120,
        "importance": {"by": "gradient", "memory": 0.3},
        "arrival": {"follow": True, "start_share": 0.6, "complete_epochs": 2, "patience_s": 60},
    }
)
# In the order of the list: the second and the fifth come late.
LATE = (1, 4)


class Site:
    """A folder that shards arrive in, one by one, from where they were made."""

    def __init__(self, made: Path, expected: list[ExpectedShard], folder: Path) -> None:
        self.made, self.expected, self.folder = made, expected, folder
        folder.mkdir(parents=True)
        for number in range(len(expected)):
            if number not in LATE:
                self.put(number)

    @property
    def shards(self) -> list[ShardOfJob]:
        return [ShardOfJob(path=self.folder / one.path, digest=one.digest) for one in self.expected]

    def put(self, number: int, *, damaged: bool = False) -> None:
        """Let a shard arrive as transfers do: complete, under its name."""
        name = self.expected[number].path
        partial = self.folder / f".{name}.part"
        shutil.copyfile(self.made / name, partial)
        if damaged:
            content = bytearray(partial.read_bytes())
            content[len(content) // 2] ^= 1
            partial.write_bytes(content)
        partial.replace(self.folder / name)

    def on_waiting(self, event: Event) -> None:
        """When the training waits, send what is missing; one of them is damaged at first."""
        if event["event"] == "waiting" and not (self.folder / self.expected[LATE[0]].path).exists():
            self.put(LATE[0], damaged=True)
            self.put(LATE[1])
        if event["event"] == "shard-refused":
            self.put(LATE[0])

    def train(self, output: Path, on_progress: Callable[[Event], None]) -> ModelCard:
        return train(
            CONFIG, self.shards, output, expected=self.expected, ranks=2, seed=4, key="k", on_progress=on_progress
        )


@pytest.fixture(scope="module")
def site_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Path], Site]:
    """Three patients to train on, every sixth patch of the first with the wrong label, and two to validate with."""
    made = tmp_path_factory.mktemp("made")
    label = np.array(balanced(ROWS), np.int8)
    shown = np.where(np.arange(ROWS) % 6 == 0, 1 - label, label)
    generator = np.random.default_rng(5)
    pixels = np.stack([texture(int(one), 48, generator) for one in shown])
    shards = [write_pixels_shard(made, "patient_000", "train", pixels, label)]
    others = [TextureShard(f"patient_00{k}", "train", balanced(ROWS)) for k in (1, 2)]
    others += [TextureShard(f"patient_01{k}", "validation", balanced(40)) for k in (0, 1)]
    shards += [write_texture_shard(made, other) for other in others]
    expected = [
        expected_shard(made, shard.path.name, size_bytes=shard.path.stat().st_size, digest=shard.digest)
        for shard in shards
    ]
    return lambda folder: Site(made, expected, folder)


@pytest.fixture(scope="module")
def undisturbed(
    site_of: Callable[[Path], Site], tmp_path_factory: pytest.TempPathFactory
) -> tuple[ModelCard, list[Event], Path]:
    """Model, log, and the checkpoints that were there when the training waited."""
    folder = tmp_path_factory.mktemp("undisturbed")
    site, kept = site_of(folder / "shards"), folder / "kept"
    events: list[Event] = []

    def watch(event: Event) -> None:
        events.append(event)
        if event["event"] == "waiting" and not kept.exists():
            shutil.copytree(folder / ".model.checkpoints", kept)
        site.on_waiting(event)

    return site.train(folder / "model", watch), events, kept


def epochs_of(events: list[Event]) -> list[Event]:
    return [event for event in events if event["event"] == "epoch"]


def test_shards_are_used_from_the_next_epoch_on_and_the_last_epochs_have_all(
    undisturbed: tuple[ModelCard, list[Event], Path],
) -> None:
    card, events, _ = undisturbed
    told = epochs_of(events)
    assert [event["shards"] for event in told] == [3, 3, 3, 5, 5]
    assert {event["shards_expected"] for event in told} == {5}
    assert [event["rows"] for event in told] == [2 * ROWS] * 3 + [3 * ROWS] * 2
    assert [event["steps"] for event in told] == [20] * 3 + [30] * 2
    assert [event["validation_rows"] for event in told] == [40] * 3 + [80] * 2
    assert [event["validation_complete"] for event in told] == [False] * 3 + [True] * 2
    # The rate falls with the epochs, whatever their steps.
    assert [event["learning_rate"] for event in told] == sorted((e["learning_rate"] for e in told), reverse=True)
    assert [event["shard"] for event in events if event["event"] == "shard-refused"] == ["patient_001.train.patches.h5"]
    assert [shard.first_epoch for shard in card.shards] == [1, 4, 1, 1, 4]
    # Validated on less, the first epochs are none to choose from.
    assert card.best_epoch >= 4
    [validation] = card.metrics
    assert (validation.rows, validation.complete) == (80, True)
    assert card.split_patients["validation"] == ("patient_010", "patient_011")


def test_hard_patches_come_more_often(undisturbed: tuple[ModelCard, list[Event], Path]) -> None:
    _, events, kept = undisturbed
    told = epochs_of(events)
    assert told[0]["distinct_rows"] == 2 * ROWS
    assert all(event["distinct_rows"] < event["rows"] for event in told[1:])
    assert told[-1]["variance_ratio"] < 1
    training = json.loads((kept / "checkpoint-000003.json").read_text())["training"]
    found, _ = newest_checkpoint(kept, training)
    assert found is not None
    arrays = read_arrays(kept, found)
    assert [first.tolist() for first in arrays.arrivals] == [[1, 0, 1, 1, 0]]
    average, seen = arrays.measures
    assert seen.sum() == 0
    places = np.arange(2 * ROWS)
    hard = (places < ROWS) & (places % 6 == 0)
    assert average[hard].mean() > 2 * average[~hard].mean()
    # What the fourth epoch would have had.
    alike = np.zeros(2 * ROWS, np.int8)
    draws = importance_draws(CONFIG.importance, places, average, alike, seed=4, epoch=4)
    counts = np.bincount(draws.rows, minlength=2 * ROWS)
    assert counts[hard].mean() > 1.5 * counts[~hard].mean()


def test_a_training_that_goes_on_from_a_checkpoint_ends_the_same(
    site_of: Callable[[Path], Site], undisturbed: tuple[ModelCard, list[Event], Path], tmp_path: Path
) -> None:
    card, log, kept = undisturbed
    site, output = site_of(tmp_path / "shards"), tmp_path / "model"
    shutil.copytree(kept, tmp_path / ".model.checkpoints")
    events: list[Event] = []

    def watch(event: Event) -> None:
        events.append(event)
        site.on_waiting(event)

    again = site.train(output, watch)
    [resumed] = [event for event in events if event["event"] == "resumed"]
    assert (resumed["epoch"], resumed["step"]) == (4, 1)
    assert again.weights_digest == card.weights_digest
    assert again.metrics == card.metrics
    assert again.shards == card.shards
    clocks = {"time", "seconds", "patches_per_s", "waiting_s", "waiting_share"}
    curves = [[{k: v for k, v in one.items() if k not in clocks} for one in epochs_of(some)] for some in (events, log)]
    assert curves[0] == curves[1]
