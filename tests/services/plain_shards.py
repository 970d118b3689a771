"""Small shards with known content."""

from __future__ import annotations

from typing import Any

import numpy as np

from tasks.patches.attributes import ShardAttributes
from tasks.patches.store import PatchBatch

SIDE_PX = 16


def plain_attributes(**changes: Any) -> ShardAttributes:  # noqa: ANN401  # fields of the model
    """Attributes of a made-up slide of 1000 x 1000 pixels, patches of 16 pixels."""
    facts: dict[str, Any] = {
        "slide": "patient_000_node_0",
        "slide_digest": "sha256:" + "0" * 64,
        "patient": "patient_000",
        "split": "train",
        "truth": "tumour",
        "level": 0,
        "level_downsample": 1.0,
        "mpp": 0.5,
        "patch_px": SIDE_PX,
        "stride_px": 0,
        "slide_width_px": 1000,
        "slide_height_px": 1000,
        "sampling": "random",
        "seed": 7,
        "configuration": "{}",
    }
    return ShardAttributes.model_validate(facts | changes)


def plain_batch(rows: int, *, seed: int = 0) -> PatchBatch:
    """Random pixels and an index in which no two rows are alike."""
    random = np.random.default_rng(seed)
    return PatchBatch(
        random.integers(0, 256, (rows, SIDE_PX, SIDE_PX, 3), np.uint8),
        {
            "x_level0_px": random.permutation(1000 - SIDE_PX)[:rows].astype(np.int64),
            "y_level0_px": random.permutation(1000 - SIDE_PX)[:rows].astype(np.int64),
            "label": random.integers(-1, 2, rows).astype(np.int8),
            "tumour_fraction": random.random(rows, np.float32),
            "tissue_fraction": random.random(rows, np.float32),
            "white_fraction": random.random(rows, np.float32),
        },
    )
