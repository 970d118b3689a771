"""Prefect's view of Layer 2: one task a training."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any, cast
from uuid import UUID

from prefect import task
from prefect.artifacts import create_progress_artifact, update_progress_artifact
from prefect.cache_policies import NO_CACHE

from tasks.train_config import TrainConfig
from tasks.training.card import ModelCard
from tasks.training.job import ShardOfJob
from tasks.training.launcher import Launch
from tasks.training.train import train

log = logging.getLogger(__name__)


# The flow has a key of its own; Prefect's would be of what starts the ranks too.
@task(name="train", persist_result=True, result_serializer="json", cache_policy=NO_CACHE)
def train_task(
    config: TrainConfig,
    shards: list[ShardOfJob],
    output: Path,
    *,
    ranks: int,
    threads: int,
    seed: int,
    key: str,
    manifest_digest: str,
    start: Launch,
) -> ModelCard:
    """Run `tasks.training.train.train`; each epoch is a line of the log and a step of a progress artifact."""
    # The function is typed for asynchronous callers too.
    artifact = cast(
        "UUID", create_progress_artifact(0.0, key="training", description=f"{config.architecture}, {ranks} ranks")
    )

    def tell(event: dict[str, Any]) -> None:
        if event["event"] == "epoch":
            log.info("%s", epoch_line(event))
            update_progress_artifact(artifact, progress=100.0 * event["epoch"] / event["epochs"])

    card = train(
        config,
        shards,
        output,
        ranks=ranks,
        threads=threads,
        seed=seed,
        key=key,
        manifest_digest=manifest_digest,
        on_progress=tell,
        start=start,
    )
    update_progress_artifact(artifact, progress=100.0)
    return card


def epoch_line(event: dict[str, Any]) -> str:
    """Tell one epoch of a training's log in a line."""
    auc = event.get("validation_auc")
    return (
        f"epoch {event['epoch']}/{event['epochs']}: loss {event['loss']:.3f}, "
        f"validation AUC {'none' if auc is None else format(auc, '.3f')}, {event['patches_per_s']:.0f} patches/s"
    )
