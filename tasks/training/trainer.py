"""The epochs of a training on one rank."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

import horovod.tensorflow as hvd
import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from tasks.errors import InputError
from tasks.training import augment, collective
from tasks.training.batches import Batch, read_batches
from tasks.training.checkpoint import CheckpointArrays, CheckpointCard
from tasks.training.cohort import LabelledRows
from tasks.training.draws import epoch_draws
from tasks.training.epoch import RankEpoch, batch_rows
from tasks.training.epoch_parts import EpochPart, place_in_epoch, plan_after
from tasks.training.freezing import set_trainable
from tasks.training.job import TrainingJob
from tasks.training.log import TrainingLog
from tasks.training.look import Look
from tasks.training.loss import class_weights
from tasks.training.measures import Measures
from tasks.training.schedule import LearningRate
from tasks.training.stain import SlideStains
from tasks.training.step import make_optimizer, make_train_step
from tasks.training.stop import Stop

_ranks_log = logging.getLogger("tasks.training")


class Trainer:
    """Runs epochs of one training on this rank.

    Attributes
    ----------
    trainable
        Which layers train now.
    optimizer
        Theirs.
    steps_done
        Of the epoch that runs or ran last, until `finish_epoch`.
    measures
        How wrong the network was about each row, for importance.
    sums
        (4,) what this rank has added up in that epoch: loss, seconds of waiting for input, seconds, and the patches of
        all ranks in steps that were left out.
    skipped
        Number of steps that were left out since the ranks started.
    """

    def __init__(
        self,
        model: keras.Model,
        rows: LabelledRows,
        job: TrainingJob,
        log: TrainingLog,
        stains: SlideStains | None,
        stop: Stop,
    ) -> None:
        self._model, self._job, self._log, self._stop = model, job, log, stop
        self.trainable = ""
        self.measures = Measures(job.config, rows.label, job.seed)
        self.take_rows(rows, stains)
        self._done: tuple[EpochPart, ...] = ()
        self.steps_done, self.sums, self.skipped = 0, np.zeros(4), 0

    @property
    def parts(self) -> tuple[EpochPart, ...]:
        """By how many ranks the steps of `steps_done` were made."""
        own = self.steps_done - sum(part.steps for part in self._done)
        return (*self._done, EpochPart(ranks=hvd.size(), steps=own)) if own else self._done

    def take_rows(self, rows: LabelledRows, stains: SlideStains | None) -> None:
        """Train on these rows from the next epoch on; the first of them are those that were there before."""
        self._rows, self._stains = rows, stains
        drawn = epoch_draws(self._job.config, rows.label, seed=self._job.seed, epoch=1)
        self._class_weight = class_weights(self._job.config, rows.label[drawn])
        self.measures.extend(rows.label)

    def begin_stage(self, epoch: int) -> None:
        """Let the layers train that the configuration names for this epoch, with an optimizer of their own."""
        trainable = "head" if epoch <= self._job.config.head_epochs else self._job.config.trainable
        if trainable == self.trainable:
            return
        self.trainable = trainable
        parameters = set_trainable(self._model, trainable)
        self._log.write("stage", epoch=epoch, trainable=trainable, parameters=parameters)
        self.optimizer = make_optimizer(self._job.config, self._model)
        collective.broadcast_state(self._model, self.optimizer)
        self._step = make_train_step(self._job.config, self._model, self.optimizer)

    def restore(self, card: CheckpointCard, arrays: CheckpointArrays) -> None:
        """Take the state of a checkpoint, so that `run_epoch` of its epoch goes on at its step."""
        self.begin_stage(card.epoch)
        _assign(self._model.variables, arrays.variables)
        if card.trainable == self.trainable:
            _assign(self.optimizer.variables, arrays.optimizer)
        collective.broadcast_state(self._model, self.optimizer)
        self.measures.restore(arrays.measures, first_rank=hvd.rank() == 0)
        # With as many ranks as before, the part of the epoch that they began goes on.
        goes_on = bool(card.parts) and card.parts[-1].ranks == hvd.size()
        self._done = card.parts[:-1] if goes_on else card.parts
        self.steps_done, self.sums = card.step, arrays.sums_of(hvd.rank(), hvd.size())
        if card.step:
            collective.set_statistics(self._model, arrays.statistics_of(hvd.rank(), hvd.size()))

    def run_epoch(
        self, epoch: int, is_due: Callable[[], bool], write_checkpoint: Callable[[], None]
    ) -> dict[str, float | None] | None:
        """Train one epoch (from 1), or its rest; None when the ranks were told to stop after `steps_done`.

        Until `finish_epoch`, the training can go on from here, with no step of the epoch left.

        Parameters
        ----------
        is_due
            Whether a checkpoint is due; only rank 0's answer counts, and the ranks hear of it where they ask each
            other whether to stop.
        write_checkpoint
            Called on all ranks after the same step.

        Returns
        -------
        dict
            Loss over all ranks, the last rate, speed and mean wait for input.
        """
        self.begin_stage(epoch)
        draws = self.measures.draws(epoch)
        plan = self._plan(epoch, draws.rows)
        rate = LearningRate.of(self._job.config, ranks=hvd.size(), steps_per_epoch=self._steps_of(draws.rows))
        if not self._run_steps(epoch, plan, rate, draws.weight, is_due, write_checkpoint):
            return None
        all_rows, seconds = plan.rows_before + int(plan.all_rows.sum()), float(self.sums[2])
        loss, waiting_s = collective.total([self.sums[0], self.sums[1] / hvd.size()]).tolist()
        used_rows = all_rows - int(self.sums[3])
        return {
            "loss": loss / used_rows if used_rows else None,
            "learning_rate": rate.at(epoch * rate.steps_per_epoch - 1),
            "steps": plan.first_step + plan.steps,
            "seconds": round(seconds, 3),
            "patches_per_s": round(all_rows / seconds, 1),
            "waiting_s": round(waiting_s, 3),
            "waiting_share": round(waiting_s / seconds, 4),
            **({"rows_left_out": float(all_rows - used_rows)} if self._job.config.skip_steps else {}),
            **self.measures.row(draws),
        }

    def finish_epoch(self) -> None:
        """Be done with an epoch: what `run_epoch` has kept for going on within it is given up."""
        self.measures.end_epoch()
        self.steps_done, self.sums, self._done = 0, np.zeros(4), ()

    @property
    def _step_rows(self) -> int:
        """Rows of a step of one rank, at most."""
        return self._job.config.batch_size * self._job.config.accumulate_steps

    def _steps_of(self, draws: NDArray[np.int64]) -> int:
        """How many steps a whole epoch has with these ranks."""
        return len(batch_rows(len(draws), ranks=hvd.size(), batch_size=self._step_rows))

    def _plan(self, epoch: int, draws: NDArray[np.int64]) -> RankEpoch:
        config = self._job.config
        return plan_after(
            self._rows,
            self._done,
            seed=self._job.seed,
            epoch=epoch,
            rank=hvd.rank(),
            ranks=hvd.size(),
            batch_size=self._step_rows,
            window_mb=config.window_mb,
            run_rows=config.run_rows,
            draws=draws,
        )

    def _run_steps(
        self,
        epoch: int,
        plan: RankEpoch,
        rate: LearningRate,
        weight: NDArray[np.float32],
        is_due: Callable[[], bool],
        write_checkpoint: Callable[[], None],
    ) -> bool:
        """Take the steps that are left, rows with their `weight`; whether the epoch has ended."""
        rest = plan.from_step(self.steps_done)
        began = time.monotonic() - float(self.sums[2])
        look, steps, rows_done = Look(rest.first_step), plan.first_step + plan.steps, rest.rows_before
        batches = read_batches(self._rows, rest, threads=self._job.reader_threads, stains=self._stains)
        for step, batch in enumerate(batches, start=rest.first_step):
            place = (epoch - 1) * rate.steps_per_epoch + place_in_epoch(plan, step, rate.steps_per_epoch)
            self.optimizer.learning_rate.assign(rate.at(place))
            all_rows = int(rest.all_rows[step - rest.first_step])
            scale, rows_done = hvd.size() / all_rows, rows_done + all_rows
            loss = self._train_batch(batch, epoch, step, scale, weight[batch.rows])
            self.sums[0 if loss is not None else 3] += all_rows if loss is None else loss
            self.sums[1] += batch.waiting_s
            self.sums[2] = time.monotonic() - began
            self.steps_done = step + 1
            speed = round(rows_done / self.sums[2], 1)
            self._log.progress("step", epoch=epoch, step=step + 1, steps=steps, patches_per_s=speed)
            if step + 1 in (look.next_step, steps):
                told, due = look.told_after(step + 1, self._stop, is_due())
                if told:
                    return False
                if due:
                    write_checkpoint()
        return True

    def _train_batch(
        self, batch: Batch, epoch: int, step: int, scale: float, draw_weight: NDArray[np.float32]
    ) -> float | None:
        """Give the loss of this rank's patches; None: the step is left out, on all ranks."""
        count, class_weight = len(batch.rows), self._class_weight[batch.label]
        weight = class_weight * draw_weight
        if self._job.config.augment:
            changes = augment.draw_changes(
                self._job.config, self._job.seed, epoch=epoch, rank=hvd.rank(), step=step, rows=count
            )
        else:
            changes = augment.no_changes(count)
        label = batch.label.astype(np.float32)
        told, used = self._step(batch.pixels, label, weight, changes, tf.constant(scale, tf.float32))
        losses = np.asarray(told)
        loss = float(np.sum(weight * losses, dtype=np.float64))
        if not used and self.skipped < self._job.config.skip_steps:
            self.skipped += 1
            patches = self._rows.describe(batch.rows)
            # The log travels with the model; of a resident site it names nobody.
            told_of = f"{count} patches" if self._job.unnamed else patches
            self._log.write("step-skipped", epoch=epoch, step=step + 1, loss=str(loss), patches=told_of)
            _ranks_log.warning("epoch %d, step %d is left out; loss %s of %s", epoch, step + 1, loss, patches)
            return None
        if not np.isfinite(loss) or not used:
            after = f", {self.skipped} left out before" if self.skipped else ""
            raise InputError(
                f"the loss became {loss} in epoch {epoch}, step {step + 1}, on rank {hvd.rank()}{after} "
                f"({self._rows.describe(batch.rows)})",
                remedy="lower train.learning_rate or set train.warmup_epochs; if it stays, look at these patches",
            )
        self.measures.add(batch.rows, losses, class_weight)
        return loss


def _assign(variables: list[keras.Variable], values: list[NDArray[np.generic]]) -> None:
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)
