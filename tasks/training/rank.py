"""What one rank does, from its job to the model."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from pathlib import Path

import horovod.tensorflow as hvd
import keras
import tensorflow as tf

from tasks.errors import InputError, PermanentFault
from tasks.training.arriving import ArrivingShards
from tasks.training.checkpoint import CheckpointArrays, read_arrays
from tasks.training.cohort import read_cohort
from tasks.training.folder import LOG_NAME, TENSORBOARD_NAME, WEIGHTS_NAME
from tasks.training.job import ShardOfJob, TrainingJob, verify_shard
from tasks.training.log import TrainingLog
from tasks.training.loop import train_epochs
from tasks.training.model_folder import load_weights
from tasks.training.models import build
from tasks.training.results import write_results
from tasks.training.start_model import start_card
from tasks.training.stop import Stop, stopped
from tasks.training.tensorboard import TensorBoardEvents

_POLICIES = {"float32": "float32", "float16": "mixed_float16", "bfloat16": "mixed_bfloat16"}


def run_rank(job: TrainingJob, stop: Stop) -> None:
    """Train as one of the ranks of `job`; rank 0 alone writes.

    Raises
    ------
    InputError
        The cohort or the configuration is wrong (see `read_cohort`, `build`, `train_epochs`).
    PermanentFault
        The site says that its ranks have GPUs, and TensorFlow sees none.
    IntegrityError
        A shard is not what its digest says, or the ranks ended with different weights.
    RetryableFault
        The ranks were told to stop.
    """
    _configure_devices(job)
    if hvd.size() != job.ranks:
        raise InputError(f"{hvd.size()} ranks were started for a job of {job.ranks}", remedy="use `camnet train`")
    resumed = read_arrays(job.checkpoints, job.resume) if job.checkpoints and job.resume else None
    with _open_log(job.model_folder) as log:
        if resumed is not None:
            log.take_over(resumed.log)
        log.write("start", architecture=job.config.architecture, ranks=job.ranks, controller=job.config.controller)
        if job.reset is not None:
            log.write("reset", **job.reset.model_dump(mode="json"))
        for fault in job.refused:
            log.write("checkpoint-refused", cause=fault)
        arriving = _first_arrivals(job, log, stop, resumed) if job.expected else None
        if arriving is None:
            _verify_share(job.shards, log)
        cohort = read_cohort([shard.path for shard in job.shards]) if arriving is None else arriving.cohort
        weights = job.config.weights
        if weights == "imagenet":
            raise InputError("the published weights were not fetched", remedy="use `camnet train`")
        keras.mixed_precision.set_dtype_policy(_POLICIES[job.config.precision])
        model = build(
            job.config.architecture,
            cohort.patch_px,
            seed=job.seed,
            weights=weights,
            weights_digest=job.config.weights_digest,
            head=job.config.head,
            dropout=job.config.dropout,
        )
        if job.config.start_from is not None:
            _go_on_from(job.config.start_from, model, job, cohort.patch_px)
        trained = train_epochs(model, cohort, job, log, stop, resumed, arriving)
        log.write("trained", best_epoch=trained.best_epoch)
        if hvd.rank() == 0:
            write_results(model, trained, cohort if arriving is None else arriving.cohort, job)


def _refuse_cpus() -> None:
    raise PermanentFault(
        f"rank {hvd.rank()} sees no GPU, and the site promises one",
        subject=f"node {socket.gethostname()}",
        remedy="see `nvidia-smi` there, CUDA_VISIBLE_DEVICES, and that TensorFlow was built for CUDA; or take gpu, or "
        "gpus_per_node, out of [horovod] of the site file to train on CPUs",
    )


def _open_log(model_folder: Path) -> TrainingLog:
    if hvd.rank() != 0:
        return TrainingLog(None)
    return TrainingLog(model_folder / LOG_NAME, TensorBoardEvents(model_folder / TENSORBOARD_NAME))


def _go_on_from(folder: Path, model: keras.Model, job: TrainingJob, patch_px: int) -> None:
    card = start_card(folder, job.config)
    if card.patch_px != patch_px:
        raise InputError(
            f"is a model for patches of {card.patch_px} px, and the shards have {patch_px}",
            subject=folder,
            remedy="set preprocess.patch_px to that of the model, or start from another one",
        )
    load_weights(model, folder / WEIGHTS_NAME)


def _first_arrivals(job: TrainingJob, log: TrainingLog, stop: Stop, resumed: CheckpointArrays | None) -> ArrivingShards:
    """Wait for the shards that the first epoch needs, or verify those that a checkpoint has."""
    arriving = ArrivingShards(job, log, stop)
    if resumed is not None and job.resume is not None:
        [first_epoch] = resumed.arrivals
        _verify_share([shard for shard, first in zip(job.shards, first_epoch, strict=True) if first], log)
        arriving.restore(first_epoch, job.resume.epoch, job.resume.step)
    elif not arriving.take_up(1):
        raise stopped(stop.reason or "another rank was told to stop")
    return arriving


def _verify_share(shards: Sequence[ShardOfJob], log: TrainingLog) -> None:
    """Verify every ranks-th shard: together the ranks verify each once, before any takes a step.

    No step begins earlier, because the first broadcast waits for all ranks.
    """
    own = shards[hvd.rank() :: hvd.size()]
    for done, shard in enumerate(own):
        verify_shard(shard)
        log.progress("verify", shards=done + 1, of=len(own))


def _configure_devices(job: TrainingJob) -> None:
    tf.config.threading.set_intra_op_parallelism_threads(job.threads)
    # Horovod's operations wait for the other ranks, if there are any; with one thread they would block all else.
    tf.config.threading.set_inter_op_parallelism_threads(1 if job.ranks == job.threads == 1 else 2)
    tf.config.experimental.enable_op_determinism()
    devices = tf.config.list_physical_devices("GPU")
    if job.gpu and not devices:
        _refuse_cpus()
    if devices:
        own = devices[hvd.local_rank() % len(devices)]
        tf.config.set_visible_devices([own], "GPU")
        tf.config.experimental.set_memory_growth(own, True)
