"""Divides the dense grid of a large slide among tasks (paper section 3.5: subtasks that share the sliding window)."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from tasks.patches.candidates import Selection


def band(selection: Selection, tile_row: NDArray[np.int64], part: int, parts: int) -> Selection:
    """Give the candidates of one part, in their order.

    A part is a band of whole rows of tiles, so that few tiles are decoded for two parts: only those below a border
    that patches reach over. Borders lie where they give the parts about equal numbers of candidates. Every candidate
    is in exactly one part, and a part may be empty. What was left out of the selection is counted in the first part.

    Parameters
    ----------
    selection
        Of the whole slide. Each candidate must be decided on for itself: no label has a limit, as in a dense grid.
    tile_row
        Row of tiles that the upper edge of each candidate lies in, (n,).
    part
        From 1 to `parts`.
    """
    if selection.wanted or selection.balanced:
        raise ValueError("what is kept of these candidates depends on all of them")
    in_row = np.bincount(tile_row)
    part_of_row = (np.cumsum(in_row) - in_row) * parts // max(1, len(tile_row))
    return replace(
        selection,
        candidates=selection.candidates.take(part_of_row[tile_row] == part - 1),
        rejected=selection.rejected if part == 1 else Counter(),
        of_slide=len(tile_row),
    )
