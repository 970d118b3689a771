"""All ranks score the rows of a split together."""

from __future__ import annotations

from collections.abc import Callable

import horovod.tensorflow as hvd
import numpy as np
from numpy.typing import NDArray

from tasks.errors import InputError
from tasks.training import collective
from tasks.training.batches import read_batches
from tasks.training.cohort import LabelledRows
from tasks.training.epoch import score_epoch
from tasks.training.job import TrainingJob
from tasks.training.log import TrainingLog
from tasks.training.look import Look
from tasks.training.metrics import Scores
from tasks.training.stain import SlideStains
from tasks.training.stop import Stop

Score = Callable[[NDArray[np.uint8]], NDArray[np.float64]]


def score_rows(
    score: Score,
    rows: LabelledRows,
    job: TrainingJob,
    log: TrainingLog,
    stains: SlideStains | None,
    *,
    event: str,
    stop: Stop | None = None,
) -> Scores | None:
    """Score all rows, each rank its share, and gather the logits: exact, whatever the number of ranks.

    Parameters
    ----------
    score
        uint8 (n, p, p, 3) → logits float64 (n,).
    event
        What the log calls it.
    stop
        The ranks look, twice a second, whether one of them was told to stop; None: they do not.

    Returns
    -------
    Scores or None
        None when one was: all ranks leave after the same step, with nothing gathered.

    Raises
    ------
    InputError
        A score is not a number or infinite.
    """
    size = job.config.batch_size
    plan = score_epoch(rows, rank=hvd.rank(), ranks=hvd.size(), batch_size=size)
    # The first rank has the largest share; others may have one batch less, and ask as often.
    steps = score_epoch(rows, rank=0, ranks=hvd.size(), batch_size=size).steps
    logits, look = [np.empty(0)], Look(0)
    batches = read_batches(rows, plan, threads=job.reader_threads, stains=stains)
    for step in range(1, steps + 1):
        batch = next(batches, None)
        if batch is not None:
            logits.append(score(batch.pixels))
        log.progress(event, step=step, steps=steps)
        if stop is not None and step in (look.next_step, steps) and look.told_after(step, stop, is_due=False)[0]:
            batches.close()
            return None
    # Ranks hold consecutive shares, so the joined logits are in the order of the rows.
    scores = Scores(collective.gather(np.concatenate(logits)), rows.label, rows.patients, rows.centres)
    _refuse_not_finite(scores, event)
    return scores


def _refuse_not_finite(scores: Scores, split: str) -> None:
    if not np.all(np.isfinite(scores.logit)):
        raise InputError(f"the {split} scores are not finite", remedy="lower train.learning_rate")
