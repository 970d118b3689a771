"""One rank, in this process, that is told to stop while it scores the validation rows."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import pytest
from numpy.typing import NDArray

from tasks.errors import InputError, RetryableFault
from tasks.train_config import TrainConfig
from tasks.training import loop, scoring
from tasks.training.checkpoint import newest_checkpoint, read_arrays
from tasks.training.cohort import read_cohort
from tasks.training.job import TrainingJob
from tasks.training.log import TrainingLog, read_log
from tasks.training.metrics import Scores
from tasks.training.models import build
from tasks.training.roll_call import RollCall
from tasks.training.step import make_score_step
from tasks.training.stop import Stop
from tasks.training.trained import Trained
from tests.services.one_rank import begin_one_rank
from tests.services.texture_shards import SIDE_PX, texture_cohort

Score = Callable[[NDArray[np.uint8]], NDArray[np.float64]]


@pytest.fixture
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TrainingJob:
    """16 steps of training and 4 of validation an epoch."""
    begin_one_rank(monkeypatch)
    config = TrainConfig(architecture="CamNetSmall", epochs=2, batch_size=2, learning_rate=0.01)
    shards = tuple(texture_cohort(tmp_path / "shards", rows=8))
    return TrainingJob(config=config, shards=shards, work=tmp_path / "work", ranks=1, seed=0, key="k")


def trained(job: TrainingJob, log_path: Path, stop: Stop) -> tuple[Trained, keras.Model]:
    cohort = read_cohort([shard.path for shard in job.shards])
    model = build("CamNetSmall", SIDE_PX, seed=0)
    resumed = read_arrays(job.checkpoints, job.resume) if job.checkpoints and job.resume else None
    with TrainingLog(log_path) as log:
        return loop.train_epochs(model, cohort, job, log, stop, resumed), model


def silent(job: TrainingJob) -> Stop:
    return Stop(job.stop_file, job.errors_folder, None, RollCall(job.roll_folder))


def test_told_to_stop_it_leaves_the_validation_and_goes_on_with_it(
    job: TrainingJob, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, model = trained(job, tmp_path / "whole.jsonl", silent(job))
    job, stop, scored = job.model_copy(update={"checkpoints": tmp_path / "checkpoints"}), silent(job), list[int]()

    def slow(of: keras.Model) -> Score:
        score = make_score_step(of)

        def told(pixels: NDArray[np.uint8]) -> NDArray[np.float64]:
            # The ranks ask twice a second.
            time.sleep(0.6)
            scored.append(len(pixels))
            stop._reason = "it got SIGTERM"
            return score(pixels)

        return told

    with monkeypatch.context() as patch:
        patch.setattr(loop, "make_score_step", slow)
        with pytest.raises(RetryableFault, match=r"has written a checkpoint.*epoch 1, step 17") as raised:
            trained(job, tmp_path / "stopped.jsonl", stop)
    assert raised.value.exit_code == 5
    assert len(scored) < 4
    found, _ = newest_checkpoint(tmp_path / "checkpoints", job.identity)
    assert found is not None
    assert (found.number, found.epoch, found.step, found.best_epoch) == (1, 1, 16, 0)

    again, same = trained(job.model_copy(update={"resume": found}), tmp_path / "again.jsonl", silent(job))
    assert (again.epochs_run, again.best_epoch) == (whole.epochs_run, whole.best_epoch)
    assert again.validation is not None
    assert whole.validation is not None
    np.testing.assert_array_equal(again.validation.logit, whole.validation.logit)
    for one, other in zip(same.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    losses = [
        [row["loss"] for row in read_log(tmp_path / name) if row["event"] == "epoch"]
        for name in ("whole.jsonl", "again.jsonl")
    ]
    assert losses[0] == losses[1]


def test_scores_that_are_not_finite_stop_the_training() -> None:
    broken = Scores(np.array([1.0, np.nan]), np.array([1, 0], np.int8), np.array(["a", "b"]))
    with pytest.raises(InputError, match="not finite"):
        scoring._refuse_not_finite(broken, "validation")
