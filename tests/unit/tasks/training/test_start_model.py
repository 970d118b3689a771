from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from tasks.digests import file_digest
from tasks.errors import InputError, IntegrityError
from tasks.train_config import TrainConfig
from tasks.training.card import ModelCard, ShardOfModel, write_card
from tasks.training.start_model import start_card
from tasks.training.unnamed import unnamed


def card(**changes: Any) -> ModelCard:  # noqa: ANN401  # fields of the record
    base: dict[str, Any] = {
        "key": "k",
        "architecture": "CamNetSmall",
        "patch_px": 48,
        "mpp": 0.25,
        "normalisation": "none",
        "parameters": 1,
        "config": TrainConfig(architecture="CamNetSmall", weights=Path("/home/dr-no/w.h5")),
        "seed": 0,
        "manifest_digest": None,
        "shards": (
            ShardOfModel(name="mueller_1.h5", digest="sha256:b", split="train", patient="mueller", rows=3),
            ShardOfModel(name="adams_1.h5", digest="sha256:a", split="validation", patient="adams", rows=3),
        ),
        "split_patients": {"train": ("mueller",), "validation": ("adams",)},
        "metrics": (),
        "epochs_run": 1,
        "best_epoch": 1,
        "ranks": 1,
        "controller": "gloo",
        "equal_weights_over_ranks": True,
        "versions": {},
        "weights_digest": "sha256:w",
    }
    return ModelCard.model_validate(base | changes)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "model.weights.h5").write_bytes(b"weights")
    write_card(tmp_path / "card.json", card(weights_digest=file_digest(tmp_path / "model.weights.h5")))
    return tmp_path


def test_a_model_of_the_same_network_may_be_gone_on_from(folder: Path) -> None:
    assert start_card(folder, TrainConfig(architecture="CamNetSmall")).patch_px == 48


def test_another_network_is_refused(folder: Path) -> None:
    with pytest.raises(InputError, match=r"architecture CamNetSmall, and train.architecture is ResNet50"):
        start_card(folder, TrainConfig(architecture="ResNet50"))
    with pytest.raises(InputError, match=r"head pooled, and train.head is dense"):
        start_card(folder, TrainConfig(architecture="CamNetSmall", head="dense"))


def test_changed_weights_are_refused(folder: Path) -> None:
    (folder / "model.weights.h5").write_bytes(b"weightz")
    with pytest.raises(IntegrityError, match="has not the digest"):
        start_card(folder, TrainConfig(architecture="CamNetSmall"))
    with pytest.raises(InputError, match=r"correct train\.start_from"):
        start_card(folder / "nothing", TrainConfig(architecture="CamNetSmall"))


def test_weights_of_a_backbone_and_of_a_whole_network_exclude_each_other() -> None:
    with pytest.raises(ValidationError, match="start_from and weights exclude each other"):
        TrainConfig(start_from=Path("model"), weights="imagenet")


def test_a_card_without_names_keeps_what_does_not_tell_who_or_where() -> None:
    told = unnamed(card())
    assert told.split_patients == {"train": ("patient-00002",), "validation": ("patient-00001",)}
    assert [(shard.name, shard.patient, shard.digest) for shard in told.shards] == [
        ("shard-00001", "patient-00002", "sha256:b"),
        ("shard-00002", "patient-00001", "sha256:a"),
    ]
    assert not [name for name in ("mueller", "adams", "dr-no") if name in told.model_dump_json()]
    assert unnamed(told) == told
