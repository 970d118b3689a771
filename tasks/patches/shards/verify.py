"""Checks a shard as a whole: structure, values, and every patch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.errors import IntegrityError
from tasks.patches.candidates import TUMOUR
from tasks.patches.store import Shard, open_shard

_REMEDY = "make the shard again at its site and transfer it again"


def verify_shard(path: Path) -> int:
    """Read a shard completely, in bounded memory, and check that its values make sense.

    The reader checks structure, types and labels; beyond that, patches must lie inside of the slide (where its size
    is not known: not left of it or above it), fractions in 0..1 (NaN is: not known), and a slide that is known to be
    negative has no tumour patch.

    Returns
    -------
    int
        Number of patches.

    Raises
    ------
    IntegrityError
        It is not what it should be; all problems are named.
    """
    with open_shard(path) as shard:
        problems = [*_position_problems(shard), *_fraction_problems(shard), *_label_problems(shard)]
        if problems:
            raise IntegrityError("has " + "; ".join(problems), subject=path, remedy=_REMEDY)
        return sum(1 for _ in shard.stream())


def _position_problems(shard: Shard) -> list[str]:
    attributes = shard.attributes
    return [
        *_outside("x_level0_px", shard.x_level0_px, attributes.patch_level0_px, attributes.slide_width_px),
        *_outside("y_level0_px", shard.y_level0_px, attributes.patch_level0_px, attributes.slide_height_px),
    ]


def _outside(name: str, place: NDArray[np.int64], side_level0_px: float, slide_px: int | None) -> list[str]:
    if slide_px is None:
        return _counted(f"{name} out of the slide (below 0 px)", place < 0)
    return _counted(f"{name} out of the slide (0..{slide_px} px)", (place < 0) | (place + side_level0_px > slide_px))


def _fraction_problems(shard: Shard) -> list[str]:
    problems = []
    for name in ("tumour_fraction", "tissue_fraction", "white_fraction"):
        values: NDArray[np.float32] = getattr(shard, name)
        problems += _counted(f"{name} out of 0..1", ~(np.isnan(values) | ((values >= 0) & (values <= 1))))
    return problems


def _label_problems(shard: Shard) -> list[str]:
    if shard.attributes.truth != "negative":
        return []
    return _counted("a tumour label on a negative slide", shard.label == TUMOUR)


def _counted(what: str, wrong: NDArray[Any]) -> list[str]:
    rows = np.flatnonzero(wrong)
    return [f"{what} in {len(rows)} of {len(wrong)} rows, first in row {rows[0]}"] if len(rows) else []
