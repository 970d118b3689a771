"""What the loop of a training gives back."""

from __future__ import annotations

from dataclasses import dataclass

from tasks.stain.reference import StainReference
from tasks.training.metrics import Scores


@dataclass(frozen=True)
class Trained:
    """How a training ended; the model holds the best weights.

    Attributes
    ----------
    best_epoch
        From 1.
    validation
        Scores of all validation patches with these weights; None without a validation split.
    test
        Scores of all test patches with these weights, taken once; None where they were not wanted.
    stain
        What the stain of the slides was changed to; None: it was left.
    first_epoch
        From which epoch on each of the expected shards was used, 0: it never came; empty where none is expected.
    """

    epochs_run: int
    best_epoch: int
    validation: Scores | None
    test: Scores | None
    equal_weights_over_ranks: bool
    stain: StainReference | None = None
    first_epoch: tuple[int, ...] = ()
