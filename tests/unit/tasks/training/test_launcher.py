from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tasks.errors import PermanentFault
from tasks.train_config import TrainConfig
from tasks.training.job import TrainingJob
from tasks.training.launcher import last_lines, rank_environment, ranks_command


def test_ranks_are_started_from_the_same_environment_without_a_shell() -> None:
    rank = [sys.executable, "-m", "tasks.training", "a job; $(touch x).json"]
    gloo = ranks_command("gloo", 3, rank)
    assert Path(gloo[0]).parent == Path(sys.executable).parent
    assert gloo[1:6] == ["-np", "3", "--gloo", "-H", "localhost:3"]
    assert gloo[-4:] == rank
    mpi = ranks_command("mpi", 3, rank)
    assert mpi[0] == "mpirun"
    assert mpi[mpi.index("-np") + 1] == "3"
    assert mpi[-4:] == rank


def test_a_missing_horovod_says_how_to_build_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    with pytest.raises(PermanentFault, match=r"horovodrun: is not there.*build\.sh"):
        ranks_command("gloo", 2, ["python"])


def test_the_environment_is_small_and_limits_threads(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("HOROVOD_RANK", "7")
    monkeypatch.setenv("OMPI_COMM_WORLD_RANK", "7")
    monkeypatch.setenv("TF_ENABLE_ONEDNN_OPTS", "0")
    config = TrainConfig(controller="mpi", silence_s=77, fusion_mb=0.5, cycle_ms=2.5)
    job = TrainingJob(config=config, shards=(), work=tmp_path, ranks=2, threads=3, seed=0, key="k")
    environment = rank_environment(job)
    assert environment["OMP_NUM_THREADS"] == "3"
    assert environment["HOROVOD_CONTROLLER"] == "mpi"
    assert environment["HOROVOD_FUSION_THRESHOLD"] == "524288"
    assert environment["HOROVOD_CYCLE_TIME"] == "2.5"
    assert environment["HOROVOD_STALL_SHUTDOWN_TIME_SECONDS"] == "77"
    assert environment["TF_ENABLE_ONEDNN_OPTS"] == "0"
    assert (Path(environment["PYTHONPATH"]) / "tasks" / "training" / "__main__.py").is_file()
    assert not {"AWS_SECRET_ACCESS_KEY", "HOROVOD_RANK", "OMPI_COMM_WORLD_RANK"} & set(environment)


def test_the_last_lines_are_few_and_survive_broken_text(tmp_path: Path) -> None:
    log = tmp_path / "ranks.log"
    log.write_bytes(b"".join(b"line %d\n" % k for k in range(5000)) + b"\xff end\n")
    lines = last_lines(log).splitlines()
    assert len(lines) == 15
    assert lines[-2:] == ["line 4999", "� end"]
