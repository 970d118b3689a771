"""Starts that end as they are told to; what ranks really do is shown by the integration tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tasks.errors import InputError
from tasks.train_config import TrainConfig
from tasks.training.checkpoint import CheckpointArrays, write_checkpoint
from tasks.training.elastic import run_ranks
from tasks.training.epoch_parts import EpochPart
from tasks.training.job import TrainingJob, read_job
from tasks.training.rank_died import RankDied

END = ((), 0)
Deaths = list[tuple[tuple[int, ...], int]]


class Starts:
    """Ranks that write so many checkpoints, of 5 steps each, and die; ``deaths`` says who and how often they write."""

    def __init__(self, deaths: Deaths) -> None:
        self.deaths, self.jobs = deaths, list[TrainingJob]()

    def __call__(self, job_path: Path, *, log_path: Path, silence_s: float, on_progress: Any) -> None:  # noqa: ANN401  # what is passed on
        job = read_job(job_path)
        dead, checkpoints = self.deaths[len(self.jobs)]
        self.jobs.append(job)
        assert job_path.parent == job.work
        with log_path.open("a") as log:
            log.write(f"{job.ranks} ranks\n")
        on_progress({"time": "1", "event": "epoch", "epoch": 1})
        on_progress({"time": str(len(self.jobs)), "event": "start"})
        for _ in range(checkpoints):
            self._write(job)
        if dead:
            raise RankDied("a rank died without a word", dead=dead, left=job.ranks - len(dead))

    def _write(self, job: TrainingJob) -> None:
        assert job.checkpoints is not None
        number = len(list(job.checkpoints.glob("*.json"))) + 1 if job.checkpoints.is_dir() else 1
        none, step = np.empty((0, 0), np.float32), 5
        state = CheckpointArrays([], [], [], np.empty(0), np.zeros((job.ranks, 3)), none, "")
        facts: dict[str, Any] = {"epoch": 2, "step": step, "parts": (EpochPart(ranks=job.ranks, steps=step),)}
        facts |= {"trainable": "all", "best_epoch": 0, "ranks": job.ranks, "training": job.identity}
        write_checkpoint(job.checkpoints, state, number=number, **facts)


def run(folder: Path, starts: Starts, *, min_ranks: int | None = 1, told: list[Any] | None = None) -> TrainingJob:
    work = folder / f"work-{len(list(folder.iterdir()))}"
    work.mkdir()
    config = TrainConfig(min_ranks=min_ranks)
    job = TrainingJob(config=config, shards=(), work=work, ranks=3, seed=0, key="k")
    return run_ranks(
        job,
        folder / "checkpoints",
        start=starts,
        log_path=folder / "ranks.log",
        on_progress=None if told is None else told.append,
    )


def test_it_goes_on_with_those_that_are_left(tmp_path: Path) -> None:
    starts, told = Starts([((1,), 1), ((0,), 1), END]), list[Any]()
    job = run(tmp_path, starts, told=told)
    assert [(one.ranks, one.asked_ranks) for one in starts.jobs] == [(3, 3), (2, 3), (1, 3)]
    assert len({one.identity for one in starts.jobs}) == 1
    assert len({one.work for one in starts.jobs}) == 3
    first, second, third = (one.reset for one in starts.jobs)
    assert first is None
    assert second is not None
    assert (second.ranks_before, second.ranks, second.died, second.checkpoint) == (3, 2, (1,), 1)
    assert second.sentence() == "rank 1 died: 2 instead of 3 ranks from epoch 2, step 6 on"
    assert third is not None
    assert (third.ranks_before, third.ranks, third.checkpoint) == (2, 1, 2)
    assert job == starts.jobs[-1]
    # Of all starts, and each event once although each start repeats what was before.
    assert (tmp_path / "ranks.log").read_text() == "3 ranks\n2 ranks\n1 ranks\n"
    assert [(event["event"], event["time"]) for event in told] == [
        ("epoch", "1"), ("start", "1"), ("start", "2"), ("start", "3")
    ]  # fmt: skip


def test_never_twice_from_the_same_checkpoint(tmp_path: Path) -> None:
    starts = Starts([((1,), 1), ((0,), 0), END])
    with pytest.raises(RankDied):
        run(tmp_path, starts)
    assert [one.ranks for one in starts.jobs] == [3, 2]


def test_from_the_beginning_once_too(tmp_path: Path) -> None:
    starts = Starts([((2,), 0), ((1,), 0), END])
    with pytest.raises(RankDied):
        run(tmp_path, starts)
    assert [one.ranks for one in starts.jobs] == [3, 2]
    reset = starts.jobs[1].reset
    assert reset is not None
    assert reset.sentence() == "rank 2 died: 2 instead of 3 ranks from the beginning on"


@pytest.mark.parametrize(
    ("min_ranks", "dead"),
    [(None, (0,)), (3, (0,)), (2, (0, 1)), (1, (0, 1, 2))],
    ids=["not", "all", "two", "none left"],
)
def test_too_few_are_too_few(min_ranks: int | None, dead: tuple[int, ...], tmp_path: Path) -> None:
    starts = Starts([(dead, 1), END])
    with pytest.raises(RankDied):
        run(tmp_path, starts, min_ranks=min_ranks)
    assert len(starts.jobs) == 1


def test_more_ranks_than_there_are_cannot_be_asked_for(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="min_ranks = 4 is more than the 3 ranks"):
        run(tmp_path, Starts([]), min_ranks=4)


def test_started_again_it_has_all_its_ranks_again_and_that_is_told(tmp_path: Path) -> None:
    with pytest.raises(RankDied):
        run(tmp_path, Starts([((1,), 1), ((0,), 1)]), min_ranks=2)
    starts = Starts([END])
    run(tmp_path, starts)
    [job] = starts.jobs
    assert job.reset is not None
    assert job.reset.sentence() == "it was started again: 3 instead of 2 ranks from epoch 2, step 6 on"
