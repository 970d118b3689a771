"""Cuts a finished shard in parts, as a large slide is."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tasks.patches.shard_names import SUFFIX, shard_name
from tasks.patches.store import INDEX_DTYPES, PatchBatch, open_shard, write_shard


def cut_in_parts(shard: Path, borders: Sequence[int]) -> list[Path]:
    """Write the rows of a shard as parts that begin at its first row and at `borders`, and remove it."""
    paths = []
    with open_shard(shard) as whole:
        ends = [*borders, whole.rows]
        for part, (start, stop) in enumerate(zip([0, *borders], ends, strict=True), 1):
            rows = np.arange(start, stop)
            path = shard.with_name(shard_name(shard.name.removesuffix(SUFFIX), part, len(ends)))
            stated = whole.attributes.model_copy(update={"part": part, "parts": len(ends)})
            with write_shard(path, stated) as writer:
                writer.append(PatchBatch(whole.read(rows), {name: getattr(whole, name)[rows] for name in INDEX_DTYPES}))
            paths.append(path)
    shard.unlink()
    return paths
