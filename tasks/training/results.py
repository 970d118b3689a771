"""What rank 0 writes at the end of a training."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version

import keras
import numpy as np

from tasks import atomic
from tasks.digests import file_digest
from tasks.patches.attributes import code_version
from tasks.training.architectures import ARCHITECTURES
from tasks.training.arrival import is_complete
from tasks.training.card import ModelCard, ResetOfModel, ShardOfModel, SplitMetrics, Threshold, write_card
from tasks.training.cohort import SPLITS, Cohort
from tasks.training.curves import draw_curves
from tasks.training.folder import (
    CARD_NAME,
    CURVES_NAME,
    LOG_NAME,
    RELIABILITY_NAME,
    ROC_NAME,
    WEIGHTS_NAME,
)
from tasks.training.job import TrainingJob
from tasks.training.log import read_log
from tasks.training.metrics import choose_threshold, split_metrics
from tasks.training.quality_figures import draw_reliability, draw_roc
from tasks.training.start_model import start_card
from tasks.training.trained import Trained
from tasks.training.unnamed import unnamed

_PACKAGES = ("tensorflow-cpu", "tensorflow", "keras", "horovod", "numpy", "h5py")


def write_results(model: keras.Model, trained: Trained, cohort: Cohort, job: TrainingJob) -> ModelCard:
    """Write weights, pictures and, last, the card into the job's model folder.

    Raises
    ------
    PermanentFault
        The disk is full.
    """
    folder = job.model_folder
    weights = folder / WEIGHTS_NAME
    try:
        model.save_weights(weights)
    except OSError as error:
        raise atomic.disk_fault(error, weights) from error
    title = f"{job.config.architecture}, {len(cohort.rows('train')):,} patches, {job.ranks} ranks"
    draw_curves(folder / CURVES_NAME, read_log(folder / LOG_NAME), title=title)
    card = _card(model, trained, cohort, job, file_digest(weights))
    if job.unnamed:
        card = unnamed(card)
    draw_roc(folder / ROC_NAME, card.metrics, title=title)
    draw_reliability(folder / RELIABILITY_NAME, card.metrics, title=title)
    write_card(folder / CARD_NAME, card)
    return card


def _card(model: keras.Model, trained: Trained, cohort: Cohort, job: TrainingJob, weights_digest: str) -> ModelCard:
    threshold = choose_threshold(trained.validation, job.config.threshold)
    return ModelCard(
        key=job.key,
        architecture=job.config.architecture,
        patch_px=cohort.patch_px,
        mpp=cohort.mpp,
        stain=trained.stain,
        normalisation=ARCHITECTURES[job.config.architecture].preprocessing,
        parameters=model.count_params(),
        config=job.config,
        seed=job.seed,
        manifest_digest=job.manifest_digest,
        shards=_arrived(trained.first_epoch, job) if job.expected else _shards(cohort, job),
        split_patients={split: patients for split in SPLITS if (patients := cohort.patients(split))},
        metrics=_metrics(trained, job, threshold),
        threshold=threshold,
        epochs_run=trained.epochs_run,
        best_epoch=trained.best_epoch,
        ranks=job.ranks,
        resets=_resets(job),
        controller=job.config.controller,
        equal_weights_over_ranks=trained.equal_weights_over_ranks,
        versions=_versions(),
        weights_digest=weights_digest,
        started_from=start_card(start, job.config).weights_digest if (start := job.config.start_from) else None,
    )


def _resets(job: TrainingJob) -> tuple[ResetOfModel, ...]:
    rows = [row for row in read_log(job.model_folder / LOG_NAME) if row["event"] == "reset"]
    return tuple(ResetOfModel.model_validate({name: row[name] for name in ResetOfModel.model_fields}) for row in rows)


def _metrics(trained: Trained, job: TrainingJob, threshold: Threshold) -> tuple[SplitMetrics, ...]:
    """Measure what was scored; the test split had no part in any choice."""
    measured = []
    if trained.validation is not None:
        measured.append(split_metrics(trained.validation, split="validation", seed=job.seed, threshold=threshold.value))
    if trained.test is not None:
        measured.append(
            split_metrics(trained.test, split="test", seed=job.seed, threshold=threshold.value, held_out=True)
        )
    there = np.array(trained.first_epoch, np.int64) > 0
    return tuple(
        metrics.model_copy(update={"complete": is_complete(job.expected, there, metrics.split)}) for metrics in measured
    )


def _shards(cohort: Cohort, job: TrainingJob) -> tuple[ShardOfModel, ...]:
    return tuple(
        ShardOfModel(
            name=facts.path.name,
            digest=shard.digest,
            split=facts.split,
            patient=facts.patient,
            rows=int(np.sum(facts.label >= 0)),
        )
        for facts, shard in zip(cohort.shards, job.shards, strict=True)
    )


def _arrived(first_epoch: tuple[int, ...], job: TrainingJob) -> tuple[ShardOfModel, ...]:
    return tuple(
        ShardOfModel(
            name=shard.path.name,
            digest=shard.digest,
            split=expected.split,
            patient=expected.patient,
            rows=expected.rows,
            first_epoch=first or None,
        )
        for expected, shard, first in zip(job.expected, job.shards, first_epoch, strict=True)
    )


def _versions() -> dict[str, str]:
    installed = {name: found for name in _PACKAGES if (found := _version(name))}
    return {"camnet": code_version(), "python": platform.python_version(), **installed}


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
