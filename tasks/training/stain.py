"""Stain of the slides of a training: the reference, and the change of each slide."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Sequence
from contextlib import ExitStack

import numpy as np
from numpy.typing import NDArray

from tasks.patches.slide_shards import SlideShards
from tasks.patches.slide_stain import slide_stain_change
from tasks.patches.store import open_shard
from tasks.stain.change import ColourChange
from tasks.stain.reference import StainReference, measure_reference, picture_reference
from tasks.train_config import TrainConfig
from tasks.training.cohort import LabelledRows, ShardFacts

_REFERENCE_PATCHES = 256
_EVERY_PX = 4


def stain_reference(config: TrainConfig, rows: LabelledRows) -> StainReference | None:
    """Measure the reference that the configuration asks for; None when stain is not normalised.

    Without a picture it is measured on `_REFERENCE_PATCHES` training patches, evenly spread over all.

    Raises
    ------
    InputError
        The picture cannot be read, or there is too little stained tissue.
    IntegrityError
        The picture is not the one that `stain_reference_digest` names, or a shard is damaged.
    """
    if config.stain == "none":
        return None
    if config.stain_reference:
        return picture_reference(config.stain_reference, config.stain, digest=config.stain_reference_digest)
    places = np.unique(np.linspace(0, len(rows) - 1, _REFERENCE_PATCHES).astype(np.int64))
    sample: list[NDArray[np.uint8]] = []
    for number in np.unique(rows.shard[places]).tolist():
        with open_shard(rows.shards[number].path) as shard:
            patches = shard.read(rows.row[places[rows.shard[places] == number]])
            sample.append(patches[:, ::_EVERY_PX, ::_EVERY_PX])
    source = f"{len(places)} patches of {len(sample)} shards of the training split"
    return measure_reference(np.concatenate(sample), config.stain, source=source)


class SlideStains:
    """The change of each slide's colours to those of the reference, measured when the slide is first read."""

    def __init__(self, shards: Sequence[ShardFacts], reference: StainReference) -> None:
        self._reference = reference
        self._parts: dict[str, list[ShardFacts]] = defaultdict(list)
        for facts in shards:
            self._parts[facts.slide].append(facts)
        self._changes: dict[str, ColourChange | None] = {}
        self._locks = {slide: threading.Lock() for slide in self._parts}

    def change_of(self, slide: str) -> ColourChange | None:
        """Give the change of a slide; None leaves it as it is. Threads may ask at the same time.

        Raises
        ------
        IntegrityError
            A shard is damaged.
        """
        with self._locks[slide]:
            if slide not in self._changes:
                self._changes[slide] = self._measure(self._parts[slide])
            return self._changes[slide]

    def _measure(self, parts: list[ShardFacts]) -> ColourChange | None:
        with ExitStack() as stack:
            shards = [stack.enter_context(open_shard(facts.path)) for facts in parts]
            shards.sort(key=lambda shard: shard.attributes.part or 0)
            return slide_stain_change(SlideShards(shards), self._reference)
