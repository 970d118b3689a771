"""The learning rate of every step."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class LearningRate:
    """Linear scaling with the ranks, warm-up, cosine decay to zero (Goyal et al. 2017; Loshchilov & Hutter 2017).

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
    """

    base: float
    ranks: int
    warmup_steps: int
    steps: int

    def at(self, step: int) -> float:
        """Rate of `step`, counted from 0 over the whole training."""
        full = self.base * self.ranks
        if step < self.warmup_steps:
            return self.base + (full - self.base) * (step + 1) / self.warmup_steps
        share = (step - self.warmup_steps) / max(1, self.steps - self.warmup_steps)
        return full * 0.5 * (1.0 + math.cos(math.pi * min(1.0, share)))
