"""Train one model: the function that flows call."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from tasks.train_config import TrainConfig
from tasks.training.attempt import attempt_folder
from tasks.training.card import ModelCard, read_card
from tasks.training.checkpoint import remove_checkpoints
from tasks.training.elastic import run_ranks
from tasks.training.expected import ExpectedShard, refuse_split_patients
from tasks.training.folder import CARD_NAME, publish
from tasks.training.imagenet import fetch_imagenet_weights
from tasks.training.job import ShardOfJob, TrainingJob
from tasks.training.launcher import Launch, Progress, launch
from tasks.training.start_model import start_card


def train(
    config: TrainConfig,
    shards: Sequence[ShardOfJob],
    output: Path,
    *,
    expected: Sequence[ExpectedShard] = (),
    ranks: int,
    threads: int = 1,
    seed: int = 0,
    key: str,
    manifest_digest: str | None = None,
    on_progress: Progress | None = None,
    start: Launch = launch,
    unnamed: bool = False,
    gpu: bool = False,
) -> ModelCard:
    """Train on the shards of one site with Horovod and leave a model folder at `output`.

    A training that was interrupted goes on from its last checkpoint, in ``.NAME.checkpoints`` beside `output`.

    Parameters
    ----------
    shards
        All shards of the cohort; each names its split. Those of the test split are only checked for patients
        that are also trained on.
    expected
        What is known of each of `shards` before it is there; with ``train.arrival.follow``, and only then.
    output
        Folder of the model (see `tasks.training.model_folder`): complete or absent. What the ranks
        printed is beside it in ``NAME.ranks.log``, also after a failure.
    ranks
        Horovod ranks; with ``train.min_ranks``, fewer go on when some have died (`tasks.training.elastic`).
    threads
        CPU threads of each rank.
    key
        Content key, written into the card.
    on_progress
        Called with each event of the training's log.
    start
        Runs the ranks: on this machine, unless something else is given.
    unnamed
        Whether the card numbers patients and shards instead of naming them.
    gpu
        Whether each rank must have a GPU.

    Returns
    -------
    ModelCard
        The card of the finished model.

    Raises
    ------
    CamNetError
        As `start`; nothing is left at `output` then that was not there before.
    """
    output = output.resolve()
    if config.start_from is not None:
        start_card(config.start_from, config)
    refuse_split_patients(expected)
    checkpoints = output.with_name(f".{output.name}.checkpoints")
    with attempt_folder(output) as work:
        job = TrainingJob(
            config=config.model_copy(
                update={
                    "weights": _weights_file(config),
                    "start_from": _resolved(config.start_from),
                    "stain_reference": _resolved(config.stain_reference),
                }
            ),
            shards=tuple(shard.model_copy(update={"path": shard.path.resolve()}) for shard in shards),
            expected=tuple(expected),
            work=work,
            ranks=ranks,
            threads=threads,
            seed=seed,
            key=key,
            manifest_digest=manifest_digest,
            unnamed=unnamed,
            gpu=gpu,
        )
        log_path = output.with_name(f"{output.name}.ranks.log")
        job = run_ranks(job, checkpoints, start=start, log_path=log_path, on_progress=on_progress)
        card = read_card(job.model_folder / CARD_NAME)
        publish(job.model_folder, output)
        remove_checkpoints(checkpoints)
        return card


def _weights_file(config: TrainConfig) -> Path | None:
    """Name the file that the ranks read; published weights are fetched once, here, before there are ranks."""
    if config.weights == "imagenet":
        cache = Path(os.environ.get("CAMNET_CACHE") or Path.home() / ".cache" / "camnet")
        return fetch_imagenet_weights(config.architecture, cache / "weights")
    return _resolved(config.weights)


def _resolved(path: Path | None) -> Path | None:
    return path.resolve() if path else None
