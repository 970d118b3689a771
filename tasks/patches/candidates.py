"""Where patches may be cut: positions with their tissue and tumour fractions and their label."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

TUMOUR, NORMAL, UNKNOWN = 1, 0, -1


@dataclass(frozen=True, slots=True)
class Candidates:
    """Positions of patches.

    Attributes
    ----------
    x_level0_px, y_level0_px
        Top left corners in the frame of level 0, int64 (n,).
    tissue_fraction, tumour_fraction
        Shares of each patch's area, float32 (n,).
    label
        1 tumour, 0 normal, -1 unknown, int8 (n,).
    """

    x_level0_px: NDArray[np.int64]
    y_level0_px: NDArray[np.int64]
    tissue_fraction: NDArray[np.float32]
    tumour_fraction: NDArray[np.float32]
    label: NDArray[np.int8]

    def __len__(self) -> int:
        return len(self.label)

    def take(self, rows: NDArray[np.int64] | NDArray[np.bool_]) -> Candidates:
        """Return the candidates at `rows`, in that order."""
        return Candidates(
            self.x_level0_px[rows],
            self.y_level0_px[rows],
            self.tissue_fraction[rows],
            self.tumour_fraction[rows],
            self.label[rows],
        )


def label_of(
    tumour_fraction: NDArray[np.float32],
    near_tumour: NDArray[np.bool_],
    truth: Literal["tumour", "negative", "unknown"],
    *,
    exhaustive: bool,
    min_tumour_fraction: float,
) -> NDArray[np.int8]:
    """Label patches by what is known of their slide.

    A patch is tumour when at least `min_tumour_fraction` of it is annotated tumour. It is normal when it is not
    even near any and the slide is known to hold no other tumour (a negative slide, or an exhaustive annotation).
    What is neither (a patch on the border of a lesion, a slide without annotation) is unknown.
    """
    label = np.full(len(tumour_fraction), UNKNOWN, np.int8)
    if truth == "negative" or (truth == "tumour" and exhaustive):
        label[~near_tumour] = NORMAL
    if truth == "tumour":
        label[tumour_fraction >= min_tumour_fraction] = TUMOUR
    return label


@dataclass(frozen=True, slots=True)
class Selection:
    """Candidates to cut, in the order in which they are tried, and why others were left out.

    Attributes
    ----------
    candidates
        In the order in which they are tried.
    wanted
        How many patches of each label are to be kept; a label that is missing has no limit.
    rejected
        How many positions were left out, by reason.
    balanced
        As many normal as tumour patches are to be kept (`tasks.patches.acceptance.balance`).
    of_slide
        How many candidates the slide has, where these are those of a part of it; 0: they are all.
    """

    candidates: Candidates
    wanted: dict[int, int]
    rejected: Counter[str]
    balanced: bool = False
    of_slide: int = 0
