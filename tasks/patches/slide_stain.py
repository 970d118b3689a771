"""What is done to the colours of a slide's patches so that they have the stain of a reference."""

from __future__ import annotations

import numpy as np

from tasks.patches.slide_shards import Patches
from tasks.stain.change import ColourChange
from tasks.stain.reference import StainReference

SAMPLE_PATCHES = 32
_EVERY_PX = 4


def slide_stain_change(patches: Patches, reference: StainReference) -> ColourChange | None:
    """Measure the stain of a slide on `SAMPLE_PATCHES` of its patches, evenly spread over its rows.

    Returns
    -------
    ColourChange | None
        None, which leaves the slide as it is, when it has too little tissue.

    Raises
    ------
    IntegrityError
        The shard is damaged.
    """
    rows = np.unique(np.linspace(0, max(patches.rows - 1, 0), SAMPLE_PATCHES).astype(np.int64))[: patches.rows]
    return reference.change_of(patches.read(rows)[:, ::_EVERY_PX, ::_EVERY_PX])
