"""Layer 2 as a real Slurm job: ranks on two nodes, errors that come through, jobs that end whatever happens."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from deployments.rank_jobs import RankJobs
from flows.slurm_ranks import SlurmRanks
from tasks.errors import ExitCode, InputError, RetryableFault
from tasks.train_config import TrainConfig
from tasks.training.card import ModelCard
from tasks.training.job import ShardOfJob
from tasks.training.train import train
from tests.services.endless_training import ranks_of
from tests.services.slurm import Slurm, running_slurm
from tests.services.texture_shards import TextureShard, texture_cohort, write_texture_shard

pytestmark = pytest.mark.slow
CONFIG = TrainConfig(architecture="CamNetSmall", epochs=2, learning_rate=0.02, silence_s=400)
ENDLESS = CONFIG.model_copy(update={"epochs": 10_000, "learning_rate": 1e-4})


def jobs(**changes: Any) -> RankJobs:  # noqa: ANN401  # fields of the record
    base = {"walltime": "0:30:00", "memory_mib": 2000, "nodes": 2, "interface": "lo"}
    return RankJobs.model_validate(base | changes)


@pytest.fixture(scope="module")
def slurm() -> Iterator[Slurm]:
    # Ranks that compile their first step look up from it after some seconds.
    with running_slurm(nodes=2, kill_wait_s=30) as slurm, pytest.MonkeyPatch.context() as patch:
        for name, value in slurm.environment.items():
            patch.setenv(name, value)
        yield slurm
        assert slurm.unfinished() == []


def trained(shards: list[ShardOfJob], output: Path, *, config: TrainConfig = CONFIG, **keywords: Any) -> ModelCard:  # noqa: ANN401  # those of train
    return train(config, shards, output, ranks=2, seed=4, key="key-1", manifest_digest="sha256:m", **keywords)


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> list[ShardOfJob]:
    return texture_cohort(tmp_path_factory.mktemp("cohort"), rows=64)


def test_two_ranks_on_two_nodes_make_the_model_that_two_local_ranks_make(
    slurm: Slurm, shards: list[ShardOfJob], tmp_path: Path
) -> None:
    output = tmp_path / "it's $HOME; a %j model"
    events: list[dict[str, Any]] = []
    card = trained(shards, output, on_progress=events.append, start=SlurmRanks("site-b", jobs()))
    assert card == trained(shards, tmp_path / "local")
    told = [event["event"] for event in events if event["event"] in ("queue", "start", "epoch", "trained")]
    assert told == ["queue", "start", "epoch", "epoch", "trained"]
    local = {path.name for path in (tmp_path / "local").iterdir()}
    assert {path.name for path in output.iterdir()} == local >= {"card.json", "model.weights.h5"}
    assert sorted(slurm.states().values()) == ["COMPLETED"]
    assert slurm.nodes_used() == {"n[1-2]"}


def test_ranks_that_talk_over_mpi_are_started_by_srun(slurm: Slurm, shards: list[ShardOfJob], tmp_path: Path) -> None:
    config = CONFIG.model_copy(update={"epochs": 1, "controller": "mpi"})
    card = trained(shards, tmp_path / "model", config=config, start=SlurmRanks("site-b", jobs(mpi="pmix")))
    assert card.ranks == 2


def test_an_error_of_a_rank_comes_through_as_it_was_raised(
    slurm: Slurm, shards: list[ShardOfJob], tmp_path: Path
) -> None:
    leak = write_texture_shard(tmp_path, TextureShard("patient_001", "validation", (1, 0)))
    with pytest.raises(InputError, match=r"patient_001 \(train and validation\)"):
        trained([*shards, leak], tmp_path / "model", start=SlurmRanks("site-b", jobs()))
    assert slurm.unfinished() == []
    assert not (tmp_path / "model").exists()


def test_a_job_that_is_warned_or_cancelled_leaves_a_checkpoint_and_goes_on(
    slurm: Slurm, shards: list[ShardOfJob], tmp_path: Path
) -> None:
    def stopped(at: str, *options: str) -> RetryableFault:
        acted: list[str] = []

        def watch(event: dict[str, Any]) -> None:
            if event["event"] == at and not acted:
                acted.extend(slurm.unfinished())
                slurm.run("scancel", *options, *acted)

        with pytest.raises(RetryableFault, match=r"was stopped \(.*goes on at epoch \d+, step \d+") as raised:
            trained(shards, tmp_path / "model", config=ENDLESS, on_progress=watch, start=SlurmRanks("site-b", jobs()))
        assert ranks_of(tmp_path) == []
        return raised.value

    # As Slurm does before the walltime, and as somebody else or a job with precedence does.
    warned = stopped("epoch", "--batch", "--signal=USR1")
    assert warned.exit_code == ExitCode.RETRY_LATER
    assert re.findall(r"epoch (\d+), step", str(warned)) != ["1"]
    cancelled = stopped("resumed")
    assert re.findall(r"epoch (\d+), step", str(cancelled)) != ["1"]


def test_a_job_that_loses_a_rank_goes_on_as_a_smaller_one(
    slurm: Slurm, shards: list[ShardOfJob], tmp_path: Path
) -> None:
    def kill_one(event: dict[str, Any]) -> None:
        if event["event"] == "checkpoint" and not killed:
            told = {
                one.pid: one.environ()
                for one in map(psutil.Process, ranks_of(tmp_path))
                if "python" in one.cmdline()[0]
            }
            [rank] = [pid for pid, own in told.items() if own.get("SLURM_PROCID") == "1" and "SLURM_STEP_ID" in own]
            psutil.Process(rank).send_signal(signal.SIGKILL)
            killed.append(event)

    killed: list[dict[str, Any]] = []
    before = set(slurm.states())
    config = CONFIG.model_copy(update={"epochs": 1, "batch_size": 8, "min_ranks": 1, "checkpoint_minutes": 1e-6})
    card = trained(shards, tmp_path / "model", config=config, on_progress=kill_one, start=SlurmRanks("site-b", jobs()))
    [reset] = card.resets
    assert (reset.ranks_before, reset.ranks, reset.died, card.ranks) == (2, 1, (1,), 1)
    assert (reset.epoch, reset.step) >= (1, killed[0]["step"] + 1)
    states = {number: state for number, state in slurm.states().items() if number not in before}
    assert [states[number] for number in sorted(states, key=int)] == ["FAILED", "COMPLETED"]


FLOW = """
import sys
from pathlib import Path
from flows.slurm_ranks import SlurmRanks
from tests.integration.test_training_slurm import ENDLESS, jobs, trained
from tests.services.texture_shards import texture_cohort

folder = Path(sys.argv[1])
trained(
    texture_cohort(folder / "shards", rows=32),
    folder / "model",
    config=ENDLESS.model_copy(update={"controller": "mpi"}),
    on_progress=lambda event: print(event["event"], flush=True),
    start=SlurmRanks("site-b", jobs(launcher="mpirun", orphan_s=10)),
)
"""


def test_a_job_under_mpirun_ends_itself_when_its_flow_is_killed(slurm: Slurm, tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    with subprocess.Popen(
        [sys.executable, "-c", FLOW, str(tmp_path)], env=environment, stdout=subprocess.PIPE, text=True
    ) as flow:
        assert flow.stdout is not None
        assert any(line.strip() == "epoch" for line in flow.stdout)
        [job] = slurm.unfinished()
        flow.send_signal(signal.SIGKILL)
    killed = time.monotonic()
    slurm.wait_for(job)
    assert time.monotonic() - killed >= 5
    assert ranks_of(tmp_path) == []
    assert "has been gone for 10 s" in (tmp_path / "model.ranks.log").read_text()


@pytest.mark.parametrize(
    ("changes", "kind", "cause"),
    [
        ({"queue": "no-such-queue"}, InputError, "Slurm refuses the job: invalid partition specified: no-such-queue"),
        ({"walltime": "2-00:00:00"}, InputError, r"it would wait for ever \(Partition"),
        (
            {"job_extra_directives": ["--hold"], "queue_timeout_s": 1},
            RetryableFault,
            r"job \d+ has waited for \d+ s \(JobHeldUser\)",
        ),
        ({"job_script_prologue": ["echo no such module", "exit 3"]}, RetryableFault, "no such module"),
        ({"launcher": "mpirun"}, InputError, "train.controller is gloo"),
        ({"interface": "ib7"}, InputError, "has no interface ib7"),
        ({"nodes": 1}, InputError, "2 ranks do not fit on 1 nodes"),
    ],
    ids=["queue", "walltime", "held", "prologue", "mpirun", "interface", "nodes"],
)
def test_no_wait_is_in_vain(
    slurm: Slurm,
    shards: list[ShardOfJob],
    tmp_path: Path,
    changes: dict[str, Any],
    kind: type[Exception],
    cause: str,
) -> None:
    with pytest.raises(kind, match=cause):
        trained(shards, tmp_path / "model", start=SlurmRanks("site-b", jobs(**changes)))
    assert slurm.unfinished() == []
    assert not (tmp_path / "model").exists()
