"""The training loop that every rank runs."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import NoReturn

import horovod.tensorflow as hvd
import keras
import numpy as np
from numpy.typing import NDArray

from tasks.errors import InputError, IntegrityError, RetryableFault
from tasks.training import collective
from tasks.training.arriving import ArrivingShards
from tasks.training.checkpoint import CheckpointArrays, CheckpointCard, write_checkpoint
from tasks.training.cohort import Cohort, LabelledRows
from tasks.training.job import TrainingJob
from tasks.training.log import LogValue, TrainingLog
from tasks.training.metrics import Scores, area_under_curve, log_loss
from tasks.training.scoring import score_rows
from tasks.training.stain import SlideStains, stain_reference
from tasks.training.step import make_score_step
from tasks.training.stop import Stop, stopped
from tasks.training.trained import Trained
from tasks.training.trainer import Trainer


@dataclass
class _Best:
    """Best weights so far. The same on all ranks, because all see the same gathered scores."""

    rank: tuple[float, float] = (float("-inf"), float("-inf"))
    epoch: int = 0
    weights: list[NDArray[np.float32]] | None = None
    validation: Scores | None = None


def train_epochs(
    model: keras.Model,
    cohort: Cohort,
    job: TrainingJob,
    log: TrainingLog,
    stop: Stop,
    resumed: CheckpointArrays | None = None,
    arriving: ArrivingShards | None = None,
) -> Trained:
    """Train `model` on the training split; the weights of the best epoch are in it at the end.

    The best epoch has the highest validation AUC (over the joined scores of all ranks; the lower loss when
    AUCs are equal). Without validation patches it is the last.

    Parameters
    ----------
    stop
        Says when to write a checkpoint and stop.
    resumed
        Arrays of ``job.resume``, from which the training goes on.
    arriving
        What has arrived, `cohort` so far; more is taken up where epochs begin.

    Raises
    ------
    InputError
        The loss is not a number or infinite, or there are too few patches.
    IntegrityError
        The ranks ended with different weights, or a shard changed while it was read.
    RetryableFault
        The ranks were told to stop, or shards did not come, and there is a checkpoint.
    """
    rows, validation = cohort.rows("train"), cohort.rows("validation")
    if job.config.patience_epochs and not len(validation):
        raise InputError("train.patience_epochs needs a validation split", remedy="set cohort.validation_fraction")
    reference = stain_reference(job.config, rows)
    stains = SlideStains(cohort.shards, reference) if reference else None
    score = make_score_step(model)
    trainer = Trainer(model, rows, job, log, stains, stop)
    course = _Course(model, trainer, job, log, stop, arriving)
    if job.resume is not None and resumed is not None:
        course.restore(job.resume, resumed, validation)
    with stop.stepping(hvd.rank()):
        while course.goes_on():
            if arriving is not None and course.take_up(arriving):
                cohort, validation = arriving.cohort, arriving.cohort.rows("validation")
                stains = SlideStains(cohort.shards, reference) if reference else None
                trainer.take_rows(cohort.rows("train"), stains)
            measured = trainer.run_epoch(course.epoch, course.is_due, course.write_inside)
            if measured is None:
                course.stop_here()
            collective.average_statistics(model)
            scores = None
            if len(validation):
                scores = score_rows(score, validation, job, log, stains, event="validation", stop=stop)
                if scores is None:
                    course.stop_here()
            row: dict[str, LogValue] = {**measured, **_validation_row(scores), **(arriving.row() if arriving else {})}
            course.end_epoch(row, scores)
    model.set_weights(course.best.weights)
    unequal = collective.unequal_ranks(model)
    if unequal:
        raise IntegrityError(
            f"after training, the weights of ranks {unequal} differ from those of rank 0",
            remedy="do not use this model; check that containers/horovod/build.sh built the installed Horovod",
        )
    test = cohort.rows("test")
    tested = None
    if len(test) and job.config.measure_test:
        tested = score_rows(score, test, job, log, stains, event="test")
    first_epoch = () if arriving is None else tuple(arriving.first_epoch.tolist())
    best = course.best
    return Trained(course.epoch - 1, best.epoch, best.validation, tested, not unequal, reference, first_epoch)


class _Course:
    """How far a training is; it is kept in checkpoints.

    Attributes
    ----------
    epoch
        That runs next, from 1.
    """

    def __init__(
        self,
        model: keras.Model,
        trainer: Trainer,
        job: TrainingJob,
        log: TrainingLog,
        stop: Stop,
        arriving: ArrivingShards | None,
    ) -> None:
        self._model, self._trainer, self._job, self._log, self._stop = model, trainer, job, log, stop
        self._arriving, self._number, self._written_s = arriving, 0, time.monotonic()
        self.epoch, self.best = 1, _Best()

    def restore(self, card: CheckpointCard, arrays: CheckpointArrays, validation: LabelledRows) -> None:
        """Go on where a checkpoint was written."""
        self._number, self.epoch = card.number, card.epoch
        if card.best_rank is not None:
            scores = None
            if len(validation):
                scores = Scores(arrays.best_logit, validation.label, validation.patients, validation.centres)
            self.best = _Best(card.best_rank, card.best_epoch, arrays.best, scores)
        self._trainer.restore(card, arrays)
        self._log.write("resumed", epoch=card.epoch, step=card.step + 1, checkpoint=card.number)

    def goes_on(self) -> bool:
        """Whether another epoch is to run."""
        patience, ended = self._job.config.patience_epochs, self.epoch - 1
        settled = 0 if self._arriving is None else self._arriving.settled_after
        if patience and settled is not None and ended - max(self.best.epoch, settled) >= patience:
            self._log.write("early-stop", epoch=ended, best_epoch=self.best.epoch)
            return False
        return self.epoch <= self._job.config.epochs

    def take_up(self, arriving: ArrivingShards) -> bool:
        """Take up shards that have arrived before the next epoch begins; whether there are any.

        Epochs that were validated on fewer patches do not compare with those that follow: the best is chosen anew.
        """
        before = arriving.cohort
        try:
            goes_on = arriving.take_up(self.epoch)
        except RetryableFault:
            self._write_checkpoint()
            collective.total([0.0])
            raise
        if not goes_on:
            self.stop_here()
        if len(arriving.cohort.rows("validation")) != len(before.rows("validation")):
            self.best = _Best()
        return arriving.cohort is not before

    def end_epoch(self, measured: dict[str, LogValue], scores: Scores | None) -> None:
        """Keep the weights if they are the best, tell the epoch, and write a checkpoint where one is due."""
        epoch, config = self.epoch, self._job.config
        self._trainer.finish_epoch()
        is_best = _keep_best(self.best, self._model, epoch, scores)
        self._log.write("epoch", epoch=epoch, epochs=config.epochs, **measured, best=is_best)
        self.epoch += 1
        if collective.any_rank(self._stop.reason is not None):
            self.stop_here()
        if epoch % config.checkpoint_epochs == 0:
            self._write_checkpoint()

    def is_due(self) -> bool:
        """Whether the last checkpoint, or the start, is so long ago that one is due within the epoch."""
        interval_s = 60.0 * self._job.config.checkpoint_minutes
        return 0 < interval_s <= time.monotonic() - self._written_s

    def write_inside(self) -> None:
        """Write a checkpoint within the epoch."""
        self._write_checkpoint()
        self._log.write("checkpoint", epoch=self.epoch, step=self._trainer.steps_done, number=self._number)

    def stop_here(self) -> NoReturn:
        """Write a checkpoint and raise the error that says so, on all ranks."""
        reason = self._stop.reason or "another rank was told to stop"
        self._log.write("stopped", epoch=self.epoch, step=self._trainer.steps_done, reason=reason)
        self._write_checkpoint()
        # Launchers end all ranks when the first one ends.
        collective.total([0.0])
        raise stopped(reason, self.epoch, self._trainer.steps_done)

    def _write_checkpoint(self) -> None:
        """Write it on rank 0, of what all ranks have."""
        if self._job.checkpoints is None:
            return
        self._number += 1
        self._written_s = time.monotonic()
        trainer, best = self._trainer, self.best
        inside = trainer.steps_done > 0
        statistics = collective.gather_rows(collective.statistics(self._model)) if inside else np.empty((0, 0), "f4")
        sums, measures = collective.gather_rows(trainer.sums), trainer.measures.arrays()
        if hvd.rank() != 0:
            return
        arrays = CheckpointArrays(
            variables=[variable.numpy() for variable in self._model.variables],
            optimizer=[variable.numpy() for variable in trainer.optimizer.variables],
            best=best.weights or [],
            best_logit=np.empty(0) if best.validation is None else best.validation.logit,
            sums=sums,
            statistics=statistics,
            log=self._log.lasting,
            measures=measures,
            arrivals=[] if self._arriving is None else [self._arriving.first_epoch],
        )
        write_checkpoint(
            self._job.checkpoints,
            arrays,
            number=self._number,
            training=self._job.identity,
            ranks=hvd.size(),
            epoch=self.epoch,
            step=trainer.steps_done,
            parts=trainer.parts,
            trainable=trainer.trainable,
            best_epoch=best.epoch,
            best_rank=best.rank if best.epoch else None,
        )


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
