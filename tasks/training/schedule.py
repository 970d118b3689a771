"""The learning rate of every step."""

from __future__ import annotations

import math
from dataclasses import dataclass

from tasks.train_config import TrainConfig


@dataclass(frozen=True)
class LearningRate:
    """Linear scaling with the ranks, warm-up, and a decay (Goyal et al. 2017; Loshchilov & Hutter 2017).

    Attributes
    ----------
    base
        Rate for one rank.
    ranks
        The joined batch is this many times larger, and so is the rate.
    warmup_steps
        The rate rises linearly from `base` to ``base × ranks`` over these steps.
    steps
        All steps of the training.
    steps_per_epoch
        Those of an epoch.
    drops
        Steps from which on the rate is multiplied by `factor`, once more at each; None: it falls to zero
        along a cosine.
    """

    base: float
    ranks: int
    warmup_steps: int
    steps: int
    drops: tuple[int, ...] | None = None
    factor: float = 1.0
    steps_per_epoch: int = 1

    @classmethod
    def of(cls, config: TrainConfig, *, ranks: int, steps_per_epoch: int) -> LearningRate:
        """Make the schedule that a configuration asks for."""
        return cls(
            config.learning_rate,
            ranks,
            config.warmup_epochs * steps_per_epoch,
            config.epochs * steps_per_epoch,
            None if config.decay == "cosine" else tuple(epoch * steps_per_epoch for epoch in config.decay_epochs),
            config.decay_factor,
            steps_per_epoch,
        )

    def at(self, step: float) -> float:
        """Rate of `step`, counted from 0 over the whole training; a place between two steps has a rate too."""
        full = self.base * self.ranks
        if step < self.warmup_steps:
            return self.base + (full - self.base) * (step + 1) / self.warmup_steps
        if self.drops is not None:
            return full * self.factor ** sum(step >= drop for drop in self.drops)
        share = (step - self.warmup_steps) / max(1, self.steps - self.warmup_steps)
        return full * 0.5 * (1.0 + math.cos(math.pi * min(1.0, share)))
