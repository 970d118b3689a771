"""Which of the training's patches an epoch has, when both classes shall have equally many."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tasks.train_config import TrainConfig

Ints = NDArray[np.int64]


def epoch_draws(config: TrainConfig, label: NDArray[np.int8], *, seed: int, epoch: int) -> Ints:
    """Draw the patches of an epoch, the same for the same arguments on every rank and machine.

    - ``none``: each patch once.
    - ``oversample``: each patch of the larger class once, each of the other equally often or once more; which ones
      come once more changes with the epoch.
    - ``undersample``: each patch of the smaller class once, and so many of the other; which ones changes with the
      epoch.

    Parameters
    ----------
    label
        (N,) 1 tumour, 0 normal, both there.

    Returns
    -------
    NDArray[np.int64]
        Rising positions in `label`, some of them several times or not at all; as many in each epoch.
    """
    if config.class_balance == "none":
        return np.arange(len(label), dtype=np.int64)
    # A fourth number keeps these draws apart from those of the order and of the augmentation.
    generator = np.random.default_rng([seed, epoch, 0, 1])
    classes = [np.flatnonzero(label == value) for value in (0, 1)]
    sizes = [len(places) for places in classes]
    wanted = max(sizes) if config.class_balance == "oversample" else min(sizes)
    drawn = [_times(places, wanted, generator) for places in classes]
    return np.sort(np.concatenate(drawn))


def _times(places: Ints, wanted: int, generator: np.random.Generator) -> Ints:
    """Take all places as often as it goes, and of the rest some without repetition."""
    times, rest = divmod(wanted, len(places))
    return np.concatenate([np.tile(places, times), generator.choice(places, rest, replace=False)])
