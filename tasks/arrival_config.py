"""Section ``[train.arrival]`` of the run configuration."""

from __future__ import annotations

from pydantic import Field

from tasks.settings import Settings


class ArrivalConfig(Settings):
    """Training while its shards are still on their way."""

    follow: bool = Field(False, description="begin with the shards that are there, take up others between epochs")
    start_share: float = Field(
        0.2, gt=0, le=1, description="share of the expected training patches that the first epoch needs"
    )
    complete_epochs: int = Field(
        1, ge=0, le=10_000, description="last epochs, which begin only when all shards are there; 0: none waits"
    )
    patience_s: float = Field(
        3600.0, gt=0, le=604_800, description="seconds that a training that must wait waits for the next shard"
    )
