"""The model that a fine-tuning starts from: a whole network, head included, as an earlier training left it."""

from __future__ import annotations

from pathlib import Path

from tasks.digests import file_digest
from tasks.errors import InputError, IntegrityError
from tasks.train_config import TrainConfig
from tasks.training.card import ModelCard, read_card
from tasks.training.folder import CARD_NAME, WEIGHTS_NAME


def start_card(folder: Path, config: TrainConfig) -> ModelCard:
    """Check that a training with `config` can go on from the model in `folder`; give its card.

    Raises
    ------
    InputError
        There is no such folder, or its network is another one.
    IntegrityError
        The card is damaged, or the weights are not those that it names.
    """
    if not folder.is_dir():
        raise InputError("is no model folder", subject=folder, remedy="correct train.start_from")
    card = read_card(folder / CARD_NAME)
    for name, here in (("architecture", config.architecture), ("head", config.head)):
        there = card.architecture if name == "architecture" else card.config.head
        if there != here:
            raise InputError(
                f"is a model with {name} {there}, and train.{name} is {here}",
                subject=folder,
                remedy=f"set train.{name} = {there!r}, or start from another model",
            )
    weights = folder / WEIGHTS_NAME
    if not weights.is_file() or file_digest(weights) != card.weights_digest:
        raise IntegrityError(
            f"is missing or has not the digest {card.weights_digest} that the card names",
            subject=weights,
            remedy="copy the model folder again",
        )
    return card
