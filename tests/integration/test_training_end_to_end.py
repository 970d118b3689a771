"""Real trainings of two ranks on small shards."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest

from tasks.errors import InputError, IntegrityError, PermanentFault
from tasks.inference.predict import score_patches
from tasks.patches.store import open_shard
from tasks.train_config import TrainConfig
from tasks.training.card import ModelCard
from tasks.training.cohort import read_cohort
from tasks.training.metrics import Scores, area_under_curve
from tasks.training.model_folder import read_model
from tasks.training.train import train
from tests.services.tensorboard_events import read_scalars
from tests.services.texture_shards import TextureShard, balanced, texture_cohort, write_texture_shard

CONFIG = TrainConfig(architecture="CamNetSmall", epochs=3, learning_rate=0.02, silence_s=120)


def trained(folder: Path, name: str, *, controller: Literal["gloo", "mpi"] = "gloo") -> tuple[ModelCard, list[Any]]:
    shards = texture_cohort(folder / "shards")
    tests = [TextureShard(f"patient_02{index}", "test", balanced(60), centre=index) for index in range(2)]
    shards += [write_texture_shard(folder / "shards", test) for test in tests]
    events: list[Any] = []
    card = train(
        CONFIG.model_copy(update={"controller": controller, "stain": "reinhard", "reader_threads": 3}),
        shards,
        folder / name,
        ranks=2,
        seed=4,
        key="key-1",
        manifest_digest="sha256:m",
        on_progress=events.append,
    )
    return card, events


@pytest.mark.slow
def test_two_ranks_learn_two_textures_reproducibly_under_both_controllers(tmp_path: Path) -> None:
    started = time.monotonic()
    card, events = trained(tmp_path, "it's $HOME; a model")
    assert time.monotonic() - started < 60
    folder = tmp_path / "it's $HOME; a model"
    assert sorted(path.name for path in folder.iterdir()) == [
        "card.json",
        "curves.png",
        "log.jsonl",
        "model.weights.h5",
        "reliability.png",
        "roc.png",
        "tensorboard",
    ]
    assert not [path for path in tmp_path.iterdir() if path.name.endswith(".part")]
    check_card(card)
    check_log(folder / "log.jsonl", events)
    check_tensorboard(folder / "tensorboard", events)
    check_scores(folder)
    again, _ = trained(tmp_path, "again", controller="mpi")
    # Bit by bit: with two ranks, sums over the ranks have one order only.
    assert again.weights_digest == card.weights_digest
    assert again.controller == "mpi"


def check_card(card: ModelCard) -> None:
    assert card.equal_weights_over_ranks is True
    assert (card.ranks, card.epochs_run, card.key, card.manifest_digest) == (2, 3, "key-1", "sha256:m")
    assert card.split_patients["validation"] == ("patient_010", "patient_011")
    assert [shard.rows for shard in card.shards] == [160] * 4 + [80] * 2 + [60] * 2
    validation, test = card.metrics
    for metrics in card.metrics:
        assert metrics.auc is not None
        assert metrics.auc.value > 0.95
        assert metrics.auc.low is not None
        assert metrics.auc.low <= metrics.auc.value
    assert card.threshold is not None
    assert (card.threshold.rule, card.threshold.value) == ("youden", validation.threshold)
    assert validation.confusion is not None
    assert validation.confusion.sensitivity is not None
    assert validation.confusion.sensitivity.value > 0.9
    assert (validation.split, validation.held_out, validation.centres) == ("validation", False, ())
    assert (test.split, test.held_out, test.rows, test.threshold) == ("test", True, 120, validation.threshold)
    assert [(one.centre, one.rows, one.patients) for one in test.centres] == [(0, 60, 1), (1, 60, 1)]


def check_log(path: Path, events: list[Any]) -> None:
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert rows == events
    epochs = [row for row in rows if row["event"] == "epoch"]
    assert [row["epoch"] for row in epochs] == [1, 2, 3]
    assert epochs[-1]["loss"] < epochs[0]["loss"]
    assert all(0 < row["waiting_s"] < row["seconds"] for row in epochs)
    assert [row["waiting_share"] for row in epochs] == [
        pytest.approx(row["waiting_s"] / row["seconds"], abs=0.01) for row in epochs
    ]


def check_tensorboard(folder: Path, events: list[Any]) -> None:
    scalars = read_scalars(folder)
    epochs = [row for row in events if row["event"] == "epoch"]
    for name in ("loss", "validation_auc", "learning_rate", "patches_per_s"):
        steps, values = zip(*scalars[f"epoch/{name}"], strict=True)
        assert list(steps) == [row["epoch"] for row in epochs]
        assert list(values) == pytest.approx([row[name] for row in epochs])


def check_scores(folder: Path) -> None:
    """The model as it is read back scores as its card says: no skew of stain or else between training and inference."""
    model, card = read_model(folder)
    assert card.stain is not None
    assert card.stain.source == "256 patches of 4 shards of the training split"
    cohort = read_cohort(sorted(folder.parent.glob("shards/*.h5")))
    for metrics in card.metrics:
        rows = cohort.rows(metrics.split)
        probability = []
        for facts in rows.shards:
            with open_shard(facts.path) as shard:
                probability.append(score_patches(model, shard, 32, stain=card.stain))
        scores = Scores(np.concatenate(probability).astype(np.float64), rows.label, rows.patients)
        assert metrics.auc is not None
        assert area_under_curve(scores) == pytest.approx(metrics.auc.value, abs=1e-9)


def test_a_shard_that_changed_after_its_transfer_stops_the_training(tmp_path: Path) -> None:
    shards = texture_cohort(tmp_path / "shards", rows=32)
    content = bytearray(shards[3].path.read_bytes())
    content[-100] ^= 1
    shards[3].path.write_bytes(content)
    with pytest.raises(IntegrityError, match=r"patient_003.*has the digest"):
        train(CONFIG, shards, tmp_path / "model", ranks=2, key="k")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.ranks.log", "shards"]


def test_a_leaking_patient_stops_the_training_and_an_older_model_stays(tmp_path: Path) -> None:
    folder = tmp_path / "shards"
    shards = texture_cohort(folder, rows=32)
    shards.append(write_texture_shard(folder, TextureShard("patient_001", "validation", (1, 0))))
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "card.json").write_text("older")
    with pytest.raises(InputError, match=r"patient_001 \(train and validation\)"):
        train(CONFIG, shards, tmp_path / "model", ranks=1, key="k")
    assert (tmp_path / "model" / "card.json").read_text() == "older"


@pytest.mark.parametrize("skip_steps", [0, 2])
def test_a_loss_that_is_not_a_number_stops_all_ranks_and_names_the_step(tmp_path: Path, skip_steps: int) -> None:
    shards = texture_cohort(tmp_path / "shards", rows=32)
    config = CONFIG.model_copy(update={"learning_rate": 1e30, "batch_size": 4, "skip_steps": skip_steps})
    events: list[Any] = []
    after = ", 2 left out before" if skip_steps else ""
    said = rf"loss became (nan|inf) in epoch \d, step \d, on rank \d{after} \(patient_00\d.*row"
    with pytest.raises(InputError, match=said):
        train(config, shards, tmp_path / "model", ranks=2, key="k", on_progress=events.append)
    assert not (tmp_path / "model").exists()
    skipped = [event for event in events if event["event"] == "step-skipped"]
    assert len(skipped) == skip_steps
    assert all("patient_00" in event["patches"] for event in skipped)


def test_a_site_that_promises_gpus_does_not_train_on_cpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")  # also on a machine that has one
    shards = texture_cohort(tmp_path / "shards", rows=32)
    with pytest.raises(PermanentFault, match=r"rank 0 sees no GPU, and the site promises one.*nvidia-smi"):
        train(CONFIG, shards, tmp_path / "model", ranks=1, key="k", gpu=True)
    assert not (tmp_path / "model").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        {"head_epochs": 1, "trainable": "stage3_conv1", "optimizer": "adamw", "weight_decay": 1e-4, "head": "dense"},
        {"precision": "float16", "compression": "float16", "loss": "focal", "optimizer": "lamb", "accumulate_steps": 2},
        {"precision": "bfloat16", "loss": "binary-cross-entropy", "decay": "step", "decay_epochs": (2,), "xla": True},
    ],
    ids=["staged", "half precision", "brain float"],
)
def test_every_way_of_training_learns_on_two_ranks(tmp_path: Path, options: dict[str, Any]) -> None:
    config = TrainConfig.model_validate(CONFIG.model_dump() | {"learning_rate": 0.005} | options)
    events: list[Any] = []
    card = train(
        config,
        texture_cohort(tmp_path / "shards"),
        tmp_path / "model",
        ranks=2,
        seed=4,
        key="key-1",
        on_progress=events.append,
    )
    [metrics] = card.metrics
    assert metrics.auc is not None
    assert metrics.auc.value > 0.9
    assert card.equal_weights_over_ranks
    stages = [event["trainable"] for event in events if event["event"] == "stage"]
    assert stages == (["head", "stage3_conv1"] if config.head_epochs else ["all"])
    model, _ = read_model(tmp_path / "model")
    assert model.get_layer("tumour_logit").output.dtype == "float32"


@pytest.mark.slow
def test_a_training_that_gets_no_better_ends_early(tmp_path: Path) -> None:
    config = CONFIG.model_copy(update={"epochs": 50, "patience_epochs": 1, "learning_rate": 0.02})
    card = train(config, texture_cohort(tmp_path / "shards"), tmp_path / "model", ranks=1, seed=4, key="key-1")
    assert card.epochs_run == card.best_epoch + 1 < 50
