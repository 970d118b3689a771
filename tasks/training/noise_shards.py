"""Shards of noise to measure a training with: it takes as long with them as with tissue."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tasks.patches.attributes import ShardAttributes
from tasks.patches.store import Columns, PatchBatch, write_shard

_MOST_ROWS = 2048
_BATCH = 256


def write_noise_shards(folder: Path, totals: Sequence[int], patch_px: int) -> list[Path]:
    """Write shards of which the first few, in the order given, have together each of `totals` rows.

    They have the encoding raw, both labels, and are of the training split, each of a patient of its own.
    """
    folder.mkdir(parents=True, exist_ok=True)
    made: list[Path] = []
    written = 0
    for total in sorted(set(totals)):
        while written < total:
            rows = min(_MOST_ROWS, total - written)
            made.append(_write(folder / f"noise-{len(made):05}.patches.h5", rows, patch_px, seed=len(made)))
            written += rows
    return made


def _write(path: Path, rows: int, patch_px: int, seed: int) -> Path:
    attributes = ShardAttributes(
        slide=path.stem,
        slide_digest=f"sha256:{'0' * 64}",
        patient=path.stem,
        split="train",
        truth="tumour",
        level=0,
        level_downsample=1.0,
        mpp=0.25,
        patch_px=patch_px,
        stride_px=0,
        slide_width_px=patch_px * rows,
        slide_height_px=patch_px,
        sampling="random",
        seed=seed,
        configuration="{}",
    )
    generator = np.random.default_rng(seed)
    with write_shard(path, attributes) as writer:
        for first in range(0, rows, _BATCH):
            number = np.arange(first, min(rows, first + _BATCH))
            label = (number % 2).astype(np.int8)
            index: Columns = {
                "x_level0_px": number * patch_px,
                "y_level0_px": np.zeros(len(number), np.int64),
                "label": label,
                "tumour_fraction": label.astype(np.float32),
                "tissue_fraction": np.ones(len(number), np.float32),
                "white_fraction": np.zeros(len(number), np.float32),
            }
            pixels = generator.integers(0, 256, (len(number), patch_px, patch_px, 3), dtype=np.uint8)
            writer.append(PatchBatch(pixels, index))
    return path
