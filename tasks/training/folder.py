"""The folder that a training makes: weights, card, log and pictures; complete or absent.

=====================  =============================================================================
``model.weights.h5``   weights only (Keras 3 wants this suffix); the architecture comes from code
``card.json``          `tasks.training.card.ModelCard`
``log.jsonl``          what happened, one JSON object a line
``curves.png``         loss, AUC, learning rate and speed by epoch
``roc.png``            ROC curves of the splits that were measured
``reliability.png``    reliability diagrams of these splits
``tensorboard/``       the epochs once more, as events for TensorBoard
=====================  =============================================================================
"""

from __future__ import annotations

import shutil
from pathlib import Path

from tasks import atomic

WEIGHTS_NAME = "model.weights.h5"
CARD_NAME = "card.json"
LOG_NAME = "log.jsonl"
CURVES_NAME = "curves.png"
ROC_NAME = "roc.png"
RELIABILITY_NAME = "reliability.png"
TENSORBOARD_NAME = "tensorboard"


def publish(complete: Path, final: Path) -> None:
    """Give the complete folder `complete` its final name; both must be on the same file system.

    A model that is already there is replaced; at no time is there a half of one under the final name.
    """
    for path in sorted(complete.rglob("*")):
        if path.is_dir():
            atomic.fsync_folder(path)
        else:
            atomic.fsync_file(path)
    atomic.fsync_folder(complete)
    old = complete.with_name(f"{complete.name}.replaced")
    if final.exists():
        final.rename(old)
    try:
        complete.rename(final)
    except BaseException:  # Ctrl-C too: the model that was there must not be lost
        if old.exists():
            old.rename(final)
        raise
    atomic.fsync_folder(final.parent)
    shutil.rmtree(old, ignore_errors=True)
