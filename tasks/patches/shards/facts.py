"""What a shard holds, in one line."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tasks.artifacts import Record
from tasks.patches.candidates import NORMAL, TUMOUR, UNKNOWN
from tasks.patches.store import open_shard


class ShardFacts(Record):
    """One shard.

    Attributes
    ----------
    part, parts
        Which part of a large slide it is, and of how many; None: it is the whole.
    rows
        Number of patches; `tumour`, `normal` and `unknown` by label.
    patch_px, mpp
        Side of a patch, and µm per pixel of the patches.
    bytes, bytes_per_patch
        Of the file, as it lies on the disk; None per patch where there is none.
    """

    path: Path
    slide: str
    patient: str
    centre: int | None
    node: int | None
    split: str
    sampling: str
    part: int | None
    parts: int | None
    encoding: str
    rows: int
    tumour: int
    normal: int
    unknown: int
    patch_px: int
    mpp: float
    bytes: int
    bytes_per_patch: float | None


def shard_facts(path: Path) -> ShardFacts:
    """Look into a shard with the verifying reader; no pixel is read.

    Raises
    ------
    IntegrityError
        As `tasks.patches.store.open_shard`.
    """
    with open_shard(path) as shard:
        attributes, rows = shard.attributes, shard.rows
        counts = {value: int(np.count_nonzero(shard.label == value)) for value in (TUMOUR, NORMAL, UNKNOWN)}
    size = path.stat().st_size
    return ShardFacts(
        path=path,
        slide=attributes.slide,
        patient=attributes.patient,
        centre=attributes.centre,
        node=attributes.node,
        split=attributes.split,
        sampling=attributes.sampling,
        part=attributes.part,
        parts=attributes.parts,
        encoding=attributes.encoding,
        rows=rows,
        tumour=counts[TUMOUR],
        normal=counts[NORMAL],
        unknown=counts[UNKNOWN],
        patch_px=attributes.patch_px,
        mpp=attributes.mpp,
        bytes=size,
        bytes_per_patch=size / rows if rows else None,
    )
