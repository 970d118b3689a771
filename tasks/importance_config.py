"""Section ``[train.importance]`` of the run configuration."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from tasks.settings import Settings


class ImportanceConfig(Settings):
    """Which training patches come more often than others."""

    by: Literal["none", "loss", "gradient"] = Field(
        "none",
        description="none: all patches come alike; loss: as their recent loss; gradient: as the recent distance of "
        "their probability from their label, which bounds their gradient",
    )
    uniform_epochs: int = Field(
        1, ge=1, le=10_000, description="first epochs, in which all patches come alike and are measured"
    )
    max_ratio: float = Field(
        4.0, ge=1, le=100, description="largest factor by which a patch comes more or less often than the mean"
    )
    uniform_share: float = Field(0.2, ge=0, le=1, description="share of the draws that goes to all patches alike")
    memory: float = Field(
        0.5, ge=0, lt=1, description="share that the old measure of a patch keeps when it is seen again"
    )
    correction: float = Field(
        1.0,
        ge=0,
        le=1,
        description="exponent of 1 / (n p), which the gradient of a patch is multiplied by; 1: the gradient stays that "
        "of even draws on average; 0: patches that come more often also count more",
    )
