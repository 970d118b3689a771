"""Which layers of a network train."""

from __future__ import annotations

import difflib

import keras

from tasks.errors import InputError
from tasks.training.models import POOL_NAME


def set_trainable(model: keras.Model, trainable: str) -> int:
    """Let part of a network train; give the number of its trainable parameters.

    Batch normalisation in layers that do not train uses its stored statistics and does not change them.

    Parameters
    ----------
    trainable
        ``all``; ``head``: what comes after the pooling of the maps; or the name of the first layer of the
        backbone that trains, in the order of the graph.

    Raises
    ------
    InputError
        No layer has that name.
    """
    names = [layer.name for layer in model.layers]
    first = {"all": names[0], "head": POOL_NAME}.get(trainable, trainable)
    if first not in names:
        near = difflib.get_close_matches(trainable, names, n=3, cutoff=0.4) or ["all", "head"]
        raise InputError(
            f"train.trainable: {model.name} has no layer {trainable!r}", remedy=f"use all, head, or {', '.join(near)}"
        )
    for position, layer in enumerate(model.layers):
        layer.trainable = position >= names.index(first)
    return sum(int(variable.value.shape.num_elements()) for variable in model.trainable_variables)
