from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, Literal

import pytest

from tasks.errors import ExitCode, InputError
from tasks.train_config import TrainConfig
from tasks.training.allocation import Allocation, interface_settings, start_command
from tasks.training.gloo_place import gloo_place
from tasks.training.job import TrainingJob, write_job
from tasks.training.rank_error import first_error

# As srun tells the second rank on the third of four nodes.
TASK = {
    "SLURM_PROCID": "5",
    "SLURM_LOCALID": "1",
    "SLURM_NODEID": "2",
    "SLURM_STEP_NUM_TASKS": "8",
    "SLURM_STEP_NUM_NODES": "4",
    "SLURMD_NODENAME": "n3",
}


def allocation(folder: Path, **changes: Any) -> Allocation:  # noqa: ANN401  # fields of the record
    base = {"job": folder / "job.json", "launcher": "srun", "mpi": "pmix", "nodes": 2, "cpus_per_rank": 3}
    return Allocation.model_validate({**base, "orphan_s": 60.0, **changes})


def job(folder: Path, controller: Literal["gloo", "mpi"] = "gloo") -> TrainingJob:
    config = TrainConfig(controller=controller)
    return TrainingJob(config=config, shards=(), work=folder, ranks=4, seed=0, key="k")


def test_srun_starts_as_many_ranks_on_each_node(tmp_path: Path) -> None:
    command = start_command(allocation(tmp_path), job(tmp_path))
    assert command[0] == "srun"
    assert {"--ntasks=4", "--ntasks-per-node=2", "--cpus-per-task=3", "--mpi=none"} <= set(command)
    assert command[-4:] == [sys.executable, "-m", "tasks.training", str(tmp_path / "job.json")]
    assert "--mpi=pmix" in start_command(allocation(tmp_path), job(tmp_path, "mpi"))


def test_mpirun_takes_its_hosts_from_the_job(tmp_path: Path) -> None:
    command = start_command(allocation(tmp_path, launcher="mpirun"), job(tmp_path, "mpi"))
    assert command[:3] == ["mpirun", "-np", "4"]
    assert "-H" not in command
    with pytest.raises(InputError, match=r"train.controller is gloo.*launcher = 'srun'"):
        start_command(allocation(tmp_path, launcher="mpirun"), job(tmp_path, "gloo"))


def test_a_task_of_srun_knows_its_place_among_the_ranks() -> None:
    met = {**TASK, "HOROVOD_GLOO_RENDEZVOUS_ADDR": "10.0.0.1"}
    assert gloo_place(met) == {
        "HOROVOD_HOSTNAME": "n3",
        "HOROVOD_RANK": "5",
        "HOROVOD_SIZE": "8",
        "HOROVOD_LOCAL_RANK": "1",
        "HOROVOD_LOCAL_SIZE": "2",
        "HOROVOD_CROSS_RANK": "2",
        "HOROVOD_CROSS_SIZE": "4",
    }
    # Under MPI, or started by horovodrun inside a job, nothing is to be told.
    assert gloo_place(TASK) == {}
    assert gloo_place({**met, "HOROVOD_RANK": "0"}) == {}


def test_one_interface_serves_all_libraries() -> None:
    assert interface_settings(None) == {}
    assert set(interface_settings("ib0").values()) == {"ib0"}


SRUN = """#!{python}
import signal, sys, time
signal.signal(signal.SIGUSR1, lambda *_: sys.exit(5))
print("ready", flush=True)
time.sleep(60)
"""


@pytest.fixture
def started(tmp_path: Path) -> subprocess.Popen[str]:
    """An allocation whose srun ends with code 5 when it is told to stop: the ranks' way to say it."""
    srun = tmp_path / "bin" / "srun"
    srun.parent.mkdir()
    srun.write_text(SRUN.format(python=sys.executable))
    srun.chmod(0o755)
    write_job(tmp_path / "job.json", job(tmp_path))
    path = tmp_path / "allocation.json"
    path.write_text(allocation(tmp_path, interface="lo", orphan_s=1.5).model_dump_json())
    (tmp_path / "followed").touch()
    environment = {**os.environ, "PATH": f"{srun.parent}:{os.environ['PATH']}"}
    command = [sys.executable, "-m", "tasks.training.allocation", str(path)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)


@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGTERM, None], ids=["warned", "ended", "orphan"])
def test_ranks_are_told_to_stop_and_their_code_is_the_jobs(
    started: subprocess.Popen[str], number: signal.Signals | None
) -> None:
    with started:
        assert started.stdout is not None
        assert started.stdout.readline() == "ready\n"
        if number is not None:
            started.send_signal(number)
        assert started.wait(30) == ExitCode.RETRY_LATER


def test_a_node_without_the_network_leaves_an_error(tmp_path: Path) -> None:
    write_job(tmp_path / "job.json", job(tmp_path))
    (tmp_path / "allocation.json").write_text(allocation(tmp_path, interface="ib7").model_dump_json())
    command = [sys.executable, "-m", "tasks.training.allocation", str(tmp_path / "allocation.json")]
    assert subprocess.run(command, timeout=60, check=False).returncode == ExitCode.USAGE
    error = first_error(tmp_path / "errors")
    assert error is not None
    assert "has no interface ib7" in error.cause
