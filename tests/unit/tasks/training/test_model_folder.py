from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tasks.digests import file_digest
from tasks.errors import InputError, IntegrityError
from tasks.train_config import TrainConfig
from tasks.training.card import ModelCard, write_card
from tasks.training.folder import CARD_NAME, WEIGHTS_NAME, publish
from tasks.training.model_folder import read_model
from tasks.training.models import build


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A finished model."""
    made = tmp_path / "model"
    write_model(made, seed=1)
    return made


def write_model(folder: Path, *, seed: int) -> None:
    folder.mkdir()
    model = build("CamNetSmall", 48, seed=seed)
    model.save_weights(folder / WEIGHTS_NAME)
    card = ModelCard(
        key="k",
        architecture="CamNetSmall",
        patch_px=48,
        mpp=0.25,
        normalisation="in graph: x / 127.5 - 1",
        parameters=model.count_params(),
        config=TrainConfig(architecture="CamNetSmall"),
        seed=seed,
        manifest_digest=None,
        shards=(),
        split_patients={"train": ("patient_000",)},
        metrics=(),
        epochs_run=1,
        best_epoch=1,
        ranks=1,
        controller="gloo",
        equal_weights_over_ranks=True,
        versions={},
        weights_digest=file_digest(folder / WEIGHTS_NAME),
    )
    write_card(folder / CARD_NAME, card)


def test_a_model_is_read_back_as_it_was(folder: Path) -> None:
    model, card = read_model(folder)
    assert card.split_patients == {"train": ("patient_000",)}
    for own, expected in zip(model.get_weights(), build("CamNetSmall", 48, seed=1).get_weights(), strict=True):
        assert np.array_equal(own, expected)


def test_one_changed_bit_in_the_weights_is_found(folder: Path) -> None:
    weights = folder / WEIGHTS_NAME
    content = bytearray(weights.read_bytes())
    content[len(content) // 2] ^= 1
    weights.write_bytes(content)
    with pytest.raises(IntegrityError, match=r"model\.weights\.h5: is missing or has not the digest"):
        read_model(folder)


def test_weights_of_another_network_are_found_even_when_the_card_names_their_digest(folder: Path) -> None:
    weights = folder / WEIGHTS_NAME
    build("MobileNetV2", 48).save_weights(weights)
    card = ModelCard.model_validate_json((folder / CARD_NAME).read_bytes())
    write_card(folder / CARD_NAME, card.model_copy(update={"weights_digest": file_digest(weights)}))
    with pytest.raises(IntegrityError, match="does not hold the weights of CamNetSmall"):
        read_model(folder)


@pytest.mark.parametrize("content", ["", "{}", '{"made_by": "camnet-model/2"}'])
def test_a_damaged_card_is_found(folder: Path, content: str) -> None:
    (folder / CARD_NAME).write_text(content)
    with pytest.raises(IntegrityError, match="is no model card"):
        read_model(folder)


def test_a_folder_that_is_not_there_is_the_users_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is no model folder"):
        read_model(tmp_path / "absent")


def test_publishing_replaces_the_whole_folder(folder: Path, tmp_path: Path) -> None:
    (folder / "left-over").write_text("of the old model")
    complete = tmp_path / "work" / "model"
    complete.parent.mkdir()
    write_model(complete, seed=2)
    publish(complete, folder)
    assert sorted(path.name for path in folder.iterdir()) == sorted([CARD_NAME, WEIGHTS_NAME])
    assert read_model(folder)[1].seed == 2
    assert list(complete.parent.iterdir()) == []


def test_a_card_of_the_first_version_is_still_read(folder: Path) -> None:
    stated = json.loads((folder / CARD_NAME).read_text())
    estimate = {"value": 0.9, "low": 0.8, "high": 0.95}
    del stated["threshold"]
    for key in ("threshold", "measure_test"):
        del stated["config"][key]
    stated["metrics"] = [
        {"split": "validation", "rows": 9, "tumour_rows": 4, "patients": 2, "threshold": 0.5}
        | dict.fromkeys(("auc", "accuracy", "log_loss"), estimate)
    ]
    (folder / CARD_NAME).write_text(json.dumps(stated))
    card = read_model(folder)[1]
    assert card.threshold is None
    [metrics] = card.metrics
    assert metrics.accuracy.low == 0.8
    assert (metrics.held_out, metrics.confusion, metrics.roc, metrics.centres) == (False, None, None, ())


def test_a_model_folder_is_published_with_its_folders(tmp_path: Path) -> None:
    made = tmp_path / "part"
    (made / "tensorboard").mkdir(parents=True)
    (made / "tensorboard" / "events").write_text("1")
    publish(made, tmp_path / "model")
    assert (tmp_path / "model" / "tensorboard" / "events").read_text() == "1"
