"""Reading a trained model back: the network from code, numbers from the file."""

from __future__ import annotations

from pathlib import Path

import keras

from tasks.digests import file_digest
from tasks.errors import InputError, IntegrityError
from tasks.training.backbone_weights import weight_shapes
from tasks.training.card import ModelCard, read_card
from tasks.training.folder import CARD_NAME, WEIGHTS_NAME
from tasks.training.models import build

__all__ = ["CARD_NAME", "WEIGHTS_NAME", "load_weights", "read_model"]


def read_model(folder: Path) -> tuple[keras.Model, ModelCard]:
    """Read a trained model. Nothing is unpickled: the network is built from code, the file gives numbers only.

    Parameters
    ----------
    folder
        A finished training.

    Returns
    -------
    tuple
        The network (see `tasks.training.models.build` for its input and output) and its card.

    Raises
    ------
    InputError
        The folder does not exist, or its architecture is unknown to this version.
    IntegrityError
        The card is damaged, or the weights are not those that it names.
    """
    if not folder.is_dir():
        raise InputError("is no model folder", subject=folder, remedy="name the folder that the training wrote")
    card = read_card(folder / CARD_NAME)
    weights = folder / WEIGHTS_NAME
    if not weights.is_file() or file_digest(weights) != card.weights_digest:
        raise IntegrityError(
            f"is missing or has not the digest {card.weights_digest} that the card names",
            subject=weights,
            remedy="copy the model folder again or train anew",
        )
    model = build(card.architecture, card.patch_px, head=card.config.head, dropout=card.config.dropout)
    load_weights(model, weights)
    return model, card


def load_weights(model: keras.Model, weights: Path) -> None:
    """Load a weights file into the network that it was written from.

    Raises
    ------
    IntegrityError
        It is not a weights file of this network.
    """
    fits = sorted(weight_shapes(weights)) == sorted(tuple(weight.shape) for weight in model.weights)
    if not fits:
        raise IntegrityError(f"does not hold the weights of {model.name}", subject=weights, remedy="train anew")
    model.load_weights(weights)
