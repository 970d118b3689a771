"""Ranks and launchers that die: no training hangs, and no process is left."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from tasks.errors import RetryableFault
from tasks.train_config import TrainConfig
from tasks.training.job import ShardOfJob
from tasks.training.rank_died import RankDied
from tasks.training.train import train
from tests.services.texture_shards import texture_cohort

ENDLESS = TrainConfig(architecture="CamNetSmall", epochs=10_000, learning_rate=1e-4, silence_s=400)


def ranks_below(folder: Path) -> list[psutil.Process]:
    """Processes of any kind that work on a job below `folder`, oldest first."""
    found = []
    for process in psutil.process_iter():
        try:
            if any(str(folder) in argument for argument in process.cmdline()) and process.pid != os.getpid():
                found.append(process)
        except psutil.Error:
            continue
    return sorted(found, key=lambda process: process.create_time())


def is_rank(process: psutil.Process) -> bool:
    line = process.cmdline()
    return line[:3] == [sys.executable, "-m", "tasks.training"]


def trains_until(
    folder: Path,
    at: str,
    act: Callable[[list[psutil.Process]], None],
    expected: type[BaseException],
    **changes: object,
) -> tuple[str, float]:
    """Train without end and call `act` with the ranks at the event `at`; give the error and its delay in seconds."""
    acted: list[float] = []

    def watch(event: dict[str, Any]) -> None:
        if event["event"] == at and not acted:
            acted.append(time.monotonic())
            act([process for process in ranks_below(folder) if is_rank(process)])

    config = ENDLESS.model_copy(update=changes)
    with pytest.raises(expected) as raised:
        train(config, shards_of(folder), folder / "model", ranks=2, key="k", on_progress=watch)
    return str(raised.value), time.monotonic() - acted[0]


def shards_of(folder: Path) -> list[ShardOfJob]:
    return texture_cohort(folder / "shards", rows=32)


@pytest.mark.slow
def test_a_killed_rank_ends_the_training_within_a_minute(tmp_path: Path) -> None:
    """Under MPI; under Gloo a training that goes on shows the same (test_training_elastic)."""
    killed: list[str] = []

    def kill_one(ranks: list[psutil.Process]) -> None:
        assert len(ranks) == 2
        killed.append(ranks[1].environ()["OMPI_COMM_WORLD_RANK"])
        ranks[1].send_signal(signal.SIGKILL)

    error, delay_s = trains_until(tmp_path, "epoch", kill_one, RankDied, controller="mpi")
    # The other one was ended by mpirun, and is known to be none that died.
    assert f"a rank died without a word (rank {killed[0]}; exit code" in error
    assert "Last lines" in error
    assert delay_s < 60
    assert ranks_below(tmp_path) == []
    # Whether the first checkpoint was written before the rank died is chance; a half-written model never stays.
    left = {path.name for path in tmp_path.iterdir()} - {".model.checkpoints"}
    assert left == {"model.ranks.log", "shards"}


@pytest.mark.slow
def test_stopped_ranks_are_ended_when_they_have_been_silent(tmp_path: Path) -> None:
    def stop_both(ranks: list[psutil.Process]) -> None:
        for rank in ranks:
            rank.send_signal(signal.SIGSTOP)

    error, delay_s = trains_until(tmp_path, "start", stop_both, RetryableFault, silence_s=60.0)
    assert "said nothing for 60 s" in error
    assert delay_s >= 60
    assert ranks_below(tmp_path) == []


@pytest.mark.slow
def test_an_interruption_in_the_launcher_ends_all_ranks(tmp_path: Path) -> None:
    def interrupt(_: list[psutil.Process]) -> None:
        raise KeyboardInterrupt

    _, delay_s = trains_until(tmp_path, "start", interrupt, KeyboardInterrupt)
    assert delay_s < 40
    assert ranks_below(tmp_path) == []


LAUNCHER = """
import sys
from pathlib import Path
from tests.integration.test_training_faults import ENDLESS, shards_of
from tasks.training.train import train

folder = Path(sys.argv[1])
train(ENDLESS, shards_of(folder), folder / "model", ranks=2, key="k", on_progress=lambda row: print(row, flush=True))
"""


@pytest.mark.slow
def test_ranks_end_when_their_launcher_is_killed(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, "-c", LAUNCHER, str(tmp_path)]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as launcher:
        assert launcher.stdout is not None
        assert any("'event': 'start'" in line for line in launcher.stdout)
        assert len([process for process in ranks_below(tmp_path) if is_rank(process)]) == 2
        launcher.kill()
    deadline = time.monotonic() + 40
    while ranks_below(tmp_path) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert ranks_below(tmp_path) == []
