"""What was explained of a slide: paths and figures, never handles."""

from __future__ import annotations

from pathlib import Path

from tasks.artifacts import Record


class ExplainedPatch(Record):
    """One explained patch.

    Attributes
    ----------
    label
        1 tumour, 0 normal, -1 unknown.
    random_correlation
        Correlation of its Grad-CAM with that of the same network with random weights; None when one of
        them is constant.
    """

    x_level0_px: int
    y_level0_px: int
    probability: float
    label: int
    random_correlation: float | None


class ExplainOutcome(Record):
    """What was explained of one slide, and the picture of it."""

    slide: str
    layer: str
    patches: tuple[ExplainedPatch, ...]
    panel: Path
