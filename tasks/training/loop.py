"""The training loop that every rank runs."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import horovod.tensorflow as hvd
import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from tasks.errors import InputError, IntegrityError
from tasks.stain.reference import StainReference
from tasks.training import augment, collective
from tasks.training.batches import Batch, read_batches
from tasks.training.cohort import Cohort, LabelledRows
from tasks.training.draws import epoch_draws
from tasks.training.epoch import score_epoch, train_epoch
from tasks.training.freezing import set_trainable
from tasks.training.job import TrainingJob
from tasks.training.log import TrainingLog
from tasks.training.loss import class_weights
from tasks.training.metrics import Scores, area_under_curve, log_loss
from tasks.training.schedule import LearningRate
from tasks.training.stain import SlideStains, stain_reference
from tasks.training.step import make_optimizer, make_score_step, make_train_step

_MOST_READER_THREADS = 8


@dataclass(frozen=True)
class Trained:
    """How a training ended; the model holds the best weights.

    Attributes
    ----------
    best_epoch
        From 1.
    validation
        Scores of all validation patches with these weights; None without a validation split.
    test
        Scores of all test patches with these weights, taken once; None where they were not wanted.
    stain
        What the stain of the slides was changed to; None: it was left.
    """

    epochs_run: int
    best_epoch: int
    validation: Scores | None
    test: Scores | None
    equal_weights_over_ranks: bool
    stain: StainReference | None = None


@dataclass
class _Best:
    """Best weights so far. The same on all ranks, because all see the same gathered scores."""

    rank: tuple[float, float] = (float("-inf"), float("-inf"))
    epoch: int = 0
    weights: list[NDArray[np.float32]] | None = None
    validation: Scores | None = None


def train_epochs(model: keras.Model, cohort: Cohort, job: TrainingJob, log: TrainingLog) -> Trained:
    """Train `model` on the training split; the weights of the best epoch are in it at the end.

    The best epoch has the highest validation AUC (over the joined scores of all ranks; the lower loss when
    AUCs are equal). Without validation patches it is the last.

    Raises
    ------
    InputError
        The loss is not a number or infinite, or there are too few patches.
    IntegrityError
        The ranks ended with different weights, or a shard changed while it was read.
    """
    rows, validation = cohort.rows("train"), cohort.rows("validation")
    patience = job.config.patience_epochs
    if patience and not len(validation):
        raise InputError("train.patience_epochs needs a validation split", remedy="set cohort.validation_fraction")
    reference = stain_reference(job.config, rows)
    stains = SlideStains(cohort.shards, reference) if reference else None
    trainer = _Trainer(model, rows, job, log, stains)
    score = make_score_step(model)
    best = _Best()
    for epoch in range(1, job.config.epochs + 1):
        measured = trainer.run_epoch(epoch)
        collective.average_statistics(model)
        scores = _score_rows(score, validation, job, log, stains) if len(validation) else None
        measured |= _validation_row(scores)
        is_best = _keep_best(best, model, epoch, scores)
        log.write("epoch", epoch=epoch, epochs=job.config.epochs, **measured, best=is_best)
        if patience and epoch - best.epoch >= patience:
            log.write("early-stop", epoch=epoch, best_epoch=best.epoch)
            break
    model.set_weights(best.weights)
    unequal = collective.unequal_ranks(model)
    if unequal:
        raise IntegrityError(
            f"after training, the weights of ranks {unequal} differ from those of rank 0",
            remedy="do not use this model; check that containers/horovod/build.sh built the installed Horovod",
        )
    test = cohort.rows("test")
    tested = None
    if len(test) and job.config.measure_test:
        tested = _score_rows(score, test, job, log, stains, event="test")
    return Trained(epoch, best.epoch, best.validation, tested, not unequal, reference)


class _Trainer:
    """Runs epochs of one training on this rank."""

    def __init__(
        self, model: keras.Model, rows: LabelledRows, job: TrainingJob, log: TrainingLog, stains: SlideStains | None
    ) -> None:
        self._model, self._rows, self._job, self._log, self._stains = model, rows, job, log, stains
        drawn = epoch_draws(job.config, rows.label, seed=job.seed, epoch=1)
        self._class_weight = class_weights(job.config, rows.label[drawn])
        self._training = ""

    def _begin_stage(self, epoch: int) -> None:
        """Let the layers train that the configuration names for this epoch, with an optimizer of their own."""
        training = "head" if epoch <= self._job.config.head_epochs else self._job.config.trainable
        if training == self._training:
            return
        self._training = training
        parameters = set_trainable(self._model, training)
        self._log.write("stage", epoch=epoch, trainable=training, parameters=parameters)
        self._optimizer = make_optimizer(self._job.config, self._model)
        collective.broadcast_state(self._model, self._optimizer)
        self._step = make_train_step(self._job.config, self._model, self._optimizer)

    def run_epoch(self, epoch: int) -> dict[str, float | None]:
        """Train one epoch (from 1); give its loss over all ranks, the last rate, speed and mean wait for input."""
        self._begin_stage(epoch)
        config, started = self._job.config, time.monotonic()
        plan = train_epoch(
            self._rows,
            seed=self._job.seed,
            epoch=epoch,
            rank=hvd.rank(),
            ranks=hvd.size(),
            batch_size=config.batch_size * config.accumulate_steps,
            window_mb=config.window_mb,
            run_rows=config.run_rows,
            draws=epoch_draws(config, self._rows.label, seed=self._job.seed, epoch=epoch),
        )
        rate = LearningRate.of(config, ranks=hvd.size(), steps_per_epoch=plan.steps)
        loss, waiting_s = 0.0, 0.0
        batches = read_batches(self._rows, plan, threads=_reader_threads(self._job), stains=self._stains)
        for step, batch in enumerate(batches):
            waiting_s += batch.waiting_s
            self._optimizer.learning_rate.assign(rate.at((epoch - 1) * plan.steps + step))
            loss += self._train_batch(batch, epoch, step, hvd.size() / plan.all_rows[step])
            done = int(plan.all_rows[: step + 1].sum())
            speed = round(done / (time.monotonic() - started), 1)
            self._log.progress("step", epoch=epoch, step=step + 1, steps=plan.steps, patches_per_s=speed)
        seconds = time.monotonic() - started
        loss, waiting_s = collective.total([loss, waiting_s / hvd.size()]).tolist()
        return {
            "loss": loss / int(plan.all_rows.sum()),
            "learning_rate": rate.at(epoch * plan.steps - 1),
            "steps": plan.steps,
            "seconds": round(seconds, 3),
            "patches_per_s": round(int(plan.all_rows.sum()) / seconds, 1),
            "waiting_s": round(waiting_s, 3),
            "waiting_share": round(waiting_s / seconds, 4),
        }

    def _train_batch(self, batch: Batch, epoch: int, step: int, scale: float) -> float:
        count = len(batch.rows)
        if self._job.config.augment:
            changes = augment.draw_changes(
                self._job.config, self._job.seed, epoch=epoch, rank=hvd.rank(), step=step, rows=count
            )
        else:
            changes = augment.no_changes(count)
        loss = float(
            self._step(
                batch.pixels,
                batch.label.astype(np.float32),
                self._class_weight[batch.label],
                changes,
                tf.constant(scale, tf.float32),
            )
        )
        if not np.isfinite(loss):
            raise InputError(
                f"the loss became {loss} in epoch {epoch}, step {step + 1}, on rank {hvd.rank()} "
                f"({self._rows.describe(batch.rows)})",
                remedy="lower train.learning_rate or set train.warmup_epochs; if it stays, look at these patches",
            )
        return loss


def _score_rows(
    score: Callable[[NDArray[np.uint8]], NDArray[np.float64]],
    rows: LabelledRows,
    job: TrainingJob,
    log: TrainingLog,
    stains: SlideStains | None,
    event: str = "validation",
) -> Scores:
    """Score all rows, each rank its share, and gather the logits: exact, whatever the number of ranks."""
    plan = score_epoch(rows, rank=hvd.rank(), ranks=hvd.size(), batch_size=job.config.batch_size)
    logits = [np.empty(0)]
    for step, batch in enumerate(read_batches(rows, plan, threads=_reader_threads(job), stains=stains)):
        logits.append(score(batch.pixels))
        log.progress(event, step=step + 1, steps=plan.steps)
    # Ranks hold consecutive shares, so the joined logits are in the order of the rows.
    scores = Scores(collective.gather(np.concatenate(logits)), rows.label, rows.patients, rows.centres)
    _refuse_not_finite(scores, event)
    return scores


def _refuse_not_finite(scores: Scores, split: str) -> None:
    if not np.all(np.isfinite(scores.logit)):
        raise InputError(f"the {split} scores are not finite", remedy="lower train.learning_rate")


def _reader_threads(job: TrainingJob) -> int:
    return job.config.reader_threads or min(job.threads, _MOST_READER_THREADS)


def _validation_row(scores: Scores | None) -> dict[str, float | None]:
    if scores is None:
        return {"validation_loss": None, "validation_auc": None}
    return {"validation_loss": log_loss(scores), "validation_auc": area_under_curve(scores)}


def _keep_best(best: _Best, model: keras.Model, epoch: int, scores: Scores | None) -> bool:
    auc = None if scores is None else area_under_curve(scores)
    rank = (float(epoch) if scores is None else auc or 0.0, 0.0 if scores is None else -log_loss(scores))
    if rank <= best.rank:
        return False
    best.rank, best.epoch, best.weights, best.validation = rank, epoch, model.get_weights(), scores
    return True
