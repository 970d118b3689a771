"""What the end of a Slurm job means for a training, by the files that its ranks have left."""

from __future__ import annotations

from pathlib import Path

import pytest

from deployments.rank_jobs import RankJobs
from flows.slurm_job import JobStatus
from flows.slurm_ranks import SlurmRanks
from tasks.errors import RetryableFault
from tasks.train_config import TrainConfig
from tasks.training.job import TrainingJob
from tasks.training.rank_died import RankDied
from tasks.training.roll_call import RollCall

RANKS = SlurmRanks(
    "site-b", RankJobs.model_validate({"walltime": "1:00:00", "memory_mib": 2000, "nodes": 2, "ranks_per_node": 2})
)


def end(folder: Path, state: str, *, ended: tuple[int, ...]) -> RetryableFault:
    """Give the error of a job of 4 ranks that ended so, when these have said that they end."""
    job = TrainingJob(config=TrainConfig(), shards=(), work=folder, ranks=4, seed=0, key="k")
    roll = RollCall(job.roll_folder)
    for rank in range(4):
        roll.begins(rank)
    for rank in ended:
        roll.ends(rank)
    (folder / "ranks.log").write_text("last words\n")
    with pytest.raises(RetryableFault) as raised:
        RANKS._raise_failure(job, folder / "ranks.log", JobStatus("7", state), 60.0)
    return raised.value


@pytest.mark.parametrize("state", ["FAILED", "NODE_FAIL"])
def test_ranks_that_died_are_known_and_so_is_what_can_be_started(state: str, tmp_path: Path) -> None:
    error = end(tmp_path, state, ended=(0, 1, 3))
    assert isinstance(error, RankDied)
    # Three are left, which two nodes cannot share.
    assert (error.dead, error.left) == ((2,), 2)


@pytest.mark.parametrize("state", ["TIMEOUT", "CANCELLED", "PREEMPTED"])
def test_a_job_that_slurm_ended_has_lost_no_rank(state: str, tmp_path: Path) -> None:
    error = end(tmp_path, state, ended=(0, 1, 3))
    assert not isinstance(error, RankDied)
    assert "job 7" in str(error)


def test_a_node_that_failed_with_nobody_missing_is_told_as_that(tmp_path: Path) -> None:
    assert "a node failed" in str(end(tmp_path, "NODE_FAIL", ended=(0, 1, 2, 3)))
