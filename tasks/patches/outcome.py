"""What became of one slide in preprocessing."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from tasks.artifacts import Artifact, Record

OutcomeState = Literal["done", "failed", "excluded"]


class SlideFile(Record):
    """One file made from a slide. `kind` decides what a site's policy lets out; `rows` counts patches."""

    artifact: Artifact
    kind: Literal["patches", "thumbnail", "annotation"]
    rows: int | None = None


class SlideOutcome(Record):
    """One slide: done with its files, failed with a reason and a remedy, or excluded by a rule.

    Attributes
    ----------
    tumour_patches, normal_patches, unknown_patches
        Rows of the sampled shard by label.
    grid_patches
        Rows of the dense shard.
    rejected
        Positions left out, by sampling and reason.
    seconds
        Wall time of this slide in its worker.
    reused
        Found finished under the same content key.
    """

    slide: str
    patient: str
    centre: int | None
    split: str
    truth: str
    state: OutcomeState
    key: str = ""
    reason: str = ""
    remedy: str | None = None
    files: tuple[SlideFile, ...] = ()
    tumour_patches: int = 0
    normal_patches: int = 0
    unknown_patches: int = 0
    grid_patches: int = 0
    rejected: dict[str, int] = Field(default_factory=dict)
    seconds: float = 0.0
    reused: bool = False
