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
from tasks.training.expected import ExpectedShard
from tasks.training.job import ShardOfJob
from tasks.training.launcher import Launch
from tasks.training.reset import Reset
from tasks.training.train import train

log = logging.getLogger(__name__)


# The flow has a key of its own; Prefect's would be of what starts the ranks too.
@task(name="train", persist_result=True, result_serializer="json", cache_policy=NO_CACHE)
def train_task(
    config: TrainConfig,
    shards: list[ShardOfJob],
    output: Path,
    *,
    expected: list[ExpectedShard],
    ranks: int,
    threads: int,
    seed: int,
    key: str,
    manifest_digest: str,
    start: Launch,
    unnamed: bool,
    gpu: bool = False,
) -> ModelCard:
    """Run `tasks.training.train.train`; each epoch is a line of the log, each event a step of a progress artifact."""
    told = _Told(config, ranks)
    card = train(
        config,
        shards,
        output,
        expected=expected,
        ranks=ranks,
        threads=threads,
        seed=seed,
        key=key,
        manifest_digest=manifest_digest,
        on_progress=told,
        start=start,
        unnamed=unnamed,
        gpu=gpu,
    )
    told.show(100.0, f"best epoch {card.best_epoch} of {card.epochs_run}")
    return card


class _Told:
    """Tells the events of a training on the terminal and as the artifact ``training``."""

    def __init__(self, config: TrainConfig, ranks: int) -> None:
        self._head, self._epochs = f"{config.architecture}, {ranks} ranks", config.epochs
        self._artifact: UUID | None = None
        try:
            # The function is typed for asynchronous callers too.
            self._artifact = cast("UUID", create_progress_artifact(0.0, key="training", description=self._head))
        except Exception as error:  # whatever its client raises
            log.warning("the Prefect server was not told: %s", error)

    def __call__(self, event: dict[str, Any]) -> None:
        if event["event"] == "epoch":
            log.info("%s", epoch_line(event))
        if event["event"] == "resumed":
            log.info("goes on from a checkpoint: epoch %d, step %d", event["epoch"], event["step"])
        if event["event"] == "reset":
            reset = Reset.model_validate({name: event[name] for name in Reset.model_fields})
            log.warning("%s", reset.sentence())
        if event["event"] == "checkpoint-refused":
            log.warning("%s and is not used", event["cause"])
        if event["event"] == "step-skipped":
            told = (event["epoch"], event["step"], event["loss"], event["patches"])
            log.warning("epoch %d, step %d is left out: loss %s with %s", *told)
        if event["event"] == "shard-refused":
            log.warning("%s %s and is not used", event["shard"], event["cause"])
        shown = progress_of(event, self._epochs)
        if shown is not None:
            self.show(*shown)

    def show(self, percent: float, words: str) -> None:
        """Change the artifact; a training goes on also when the server does not hear of it."""
        if self._artifact is None:
            return
        try:
            update_progress_artifact(self._artifact, progress=percent, description=f"{self._head}: {words}")
        except Exception as error:  # whatever its client raises
            log.warning("the Prefect server was not told: %s", error)


def progress_of(event: dict[str, Any], epochs: int) -> tuple[float, str] | None:
    """Give how far a training of so many epochs is, in percent, and in words; None for events that tell neither."""
    match event["event"]:
        case "queue":
            return 0.0, f"Slurm job {event['job']} waits ({event['reason']})"
        case "waiting":
            return 100.0 * (event["epoch"] - 1) / epochs, f"epoch {event['epoch']}/{epochs} waits: {event['why']}"
        case "step":
            done = event["epoch"] - 1 + event["step"] / event["steps"]
            where = f"epoch {event['epoch']}/{epochs}, step {event['step']}/{event['steps']}"
            return 100.0 * done / epochs, f"{where}, {event['patches_per_s']:.0f} patches/s"
        case "epoch":
            return 100.0 * event["epoch"] / epochs, epoch_line(event)
    return None


def epoch_line(event: dict[str, Any]) -> str:
    """Tell one epoch of a training's log in a line."""
    auc, waiting_s = event.get("validation_auc"), event.get("waiting_s")
    shards, of = event.get("shards"), event.get("shards_expected")
    arrived = "" if shards == of else f", {shards} of {of} shards"
    partly = "" if event.get("validation_complete", True) else " (not all of its patches)"
    waited = "" if waiting_s is None else f", {100 * waiting_s / max(event['seconds'], 1e-9):.0f} % waiting for input"
    return (
        f"epoch {event['epoch']}/{event['epochs']}: loss {event['loss']:.3f}, "
        f"validation AUC {'none' if auc is None else format(auc, '.3f')}{partly}, "
        f"{event['patches_per_s']:.0f} patches/s{waited}{arrived}"
    )
