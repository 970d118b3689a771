"""Which shards an epoch has while others are still on their way: pure functions of what arrived when.

`first_epoch` says of each expected shard from which epoch on (from 1) it is used; 0: it is not there yet.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tasks.config import Split
from tasks.train_config import TrainConfig
from tasks.training.expected import ExpectedShard

Ints = NDArray[np.int64]

_SIDES: tuple[Split, ...] = ("train", "validation")


def shards_of_epoch(first_epoch: Ints, epoch: int) -> Ints:
    """Give positions of the shards that an epoch has: those that came first are first, so that rows keep their places.

    Shards that came for the same epoch are in the order of the list. So what an epoch has depends on the list and on
    `first_epoch`, not on the order or the time of the arrivals between two epochs.
    """
    there = np.flatnonzero((first_epoch > 0) & (first_epoch <= epoch))
    return there[np.argsort(first_epoch[there], kind="stable")]


def why_wait(
    config: TrainConfig, expected: Sequence[ExpectedShard], there: NDArray[np.bool_], *, epoch: int, ranks: int
) -> str | None:
    """Say why an epoch (from 1) cannot begin with the shards that are `there` (shards,); None: it can.

    The first needs its share of the training patches, one of them for each rank at least, and on both sides, training
    and validation, each class that is expected there. The last ones need all.
    """
    if there.all():
        return None
    if epoch > config.epochs - config.arrival.complete_epochs:
        return "the last epochs need all shards"
    present = [shard for shard, is_there in zip(expected, there, strict=True) if is_there]
    for side in _SIDES:
        for name in ("tumour_rows", "normal_rows"):
            wanted, got = (sum(getattr(one, name) for one in some if one.split == side) for some in (expected, present))
            if wanted and not got:
                return f"the {side} split has no {name.removesuffix('_rows')} patches yet"
    wanted, got = (sum(shard.rows for shard in some if shard.split == "train") for some in (expected, present))
    needed = max(ranks, int(np.ceil(config.arrival.start_share * wanted)))
    return f"{got:,} of the {needed:,} training patches are there" if got < needed else None


def is_complete(expected: Sequence[ExpectedShard], there: NDArray[np.bool_], split: Split) -> bool:
    """Whether all shards of a split are there."""
    return all(is_there for shard, is_there in zip(expected, there, strict=True) if shard.split == split)


def named(names: Sequence[str], most: int = 10) -> str:
    """List names for a message."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
