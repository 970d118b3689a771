"""Shards for tests of exports and imports: real names of CAMELYON, pixels that tell their row and channel."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
from numpy.typing import NDArray

from tasks.patches.store import PatchBatch, write_shard
from tests.services.plain_shards import SIDE_PX, plain_attributes

NODE = "patient_030_node_4"


def coloured(rows: int) -> NDArray[np.uint8]:
    """Patches whose red, green and blue are never alike, and which are all different, uint8 (rows, 16, 16, 3)."""
    pixels = np.empty((rows, SIDE_PX, SIDE_PX, 3), np.uint8)
    pixels[:] = np.arange(rows, dtype=np.uint8)[:, None, None, None] + np.array([0, 60, 120], np.uint8)
    pixels[:, np.arange(SIDE_PX), np.arange(SIDE_PX)] += np.arange(3, dtype=np.uint8)
    return pixels


def write_coloured(path: Path, label: list[int], *, step_px: int = 8, **changes: Any) -> Path:  # noqa: ANN401  # attributes
    """Write a shard of `coloured` patches with these labels, `step_px` apart; JPEG changes their pixels a bit."""
    rows = np.arange(len(label))
    facts = {"slide": NODE, "patient": "patient_030", "node": 4, "centre": 1} | changes
    nothing = np.full(len(label), np.nan, np.float32)
    example = bytes(imagecodecs.jpeg8_encode(coloured(1)[0], 90))
    with write_shard(path, plain_attributes(**facts), example) as writer:
        writer.append(
            PatchBatch(
                coloured(len(label)),
                {
                    "x_level0_px": rows * step_px,
                    "y_level0_px": rows * 2 * step_px,
                    "label": np.array(label, np.int8),
                    "tumour_fraction": (np.array(label) == 1).astype(np.float32),
                    "tissue_fraction": np.ones(len(label), np.float32),
                    "white_fraction": nothing,
                },
            )
        )
    return path
