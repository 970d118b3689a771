from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import pytest

from deployments.rank_jobs import RankJobs
from flows.ranks_script import job_environment, ranks_script
from tasks.errors import InputError


def script(ranks: int = 4, log_path: Path = Path("/logs/x.log"), **changes: Any) -> str:  # noqa: ANN401  # fields of the record
    base = {"walltime": "2:00:00", "memory_mib": 4000, "nodes": 2, "ranks_per_node": 2}
    jobs = RankJobs.model_validate(base | changes)
    return ranks_script(jobs, name="camnet-x", command=["py", "a job"], log_path=log_path, ranks=ranks, cpus_per_rank=3)


def test_a_job_asks_for_what_the_table_says() -> None:
    made = script(
        queue="gpu",
        account="me",
        gpus_per_node=2,
        warning_s=120,
        job_extra_directives=["--qos=long"],
        job_script_prologue=["module load openmpi"],
    )
    assert made == (
        "#!/bin/bash\n"
        "#SBATCH --job-name=camnet-x\n"
        '#SBATCH --output="/logs/x.log"\n'
        "#SBATCH --open-mode=append\n"
        "#SBATCH --partition=gpu\n"
        "#SBATCH --account=me\n"
        "#SBATCH --time=2:00:00\n"
        "#SBATCH --nodes=2\n"
        "#SBATCH --ntasks-per-node=2\n"
        "#SBATCH --cpus-per-task=3\n"
        "#SBATCH --mem=8000M\n"
        "#SBATCH --gres=gpu:2\n"
        "#SBATCH --signal=B:USR1@120\n"
        "#SBATCH --no-requeue\n"
        "#SBATCH --dependency=singleton\n"
        "#SBATCH --qos=long\n"
        "module load openmpi\n"
        "exec py 'a job'\n"
    )


def test_fewer_ranks_take_fewer_nodes_and_less_memory() -> None:
    made = script(ranks=1, warning_s=0)
    assert "--nodes=1\n" in made
    assert "--ntasks-per-node=1\n" in made
    assert "--mem=4000M\n" in made
    assert "--signal" not in made
    assert "--gres" not in made


def test_names_of_folders_stay_names(tmp_path: Path) -> None:
    made = script(log_path=Path("/a %j; $(touch x)/it's.log"))
    assert '#SBATCH --output="/a %%j; $(touch x)/it\'s.log"\n' in made
    assert shlex.split(made.splitlines()[-1]) == ["exec", "py", "a job"]
    with pytest.raises(InputError, match="quotes"):
        script(log_path=tmp_path / 'a"b.log')


def test_a_job_inherits_nothing_that_speaks_of_another_job() -> None:
    caller = {
        "PATH": "/bin",
        "MODULEPATH": "/modules",
        "SLURM_CONF": "/etc/slurm.conf",
        "SLURM_JOB_ID": "7",
        "SBATCH_ACCOUNT": "other",
        "HOROVOD_RANK": "3",
        "OMPI_COMM_WORLD_RANK": "3",
        "PREFECT_API_KEY": "secret",
    }
    assert job_environment(caller, package_root=Path("/camnet")) == {
        "PATH": "/bin",
        "MODULEPATH": "/modules",
        "SLURM_CONF": "/etc/slurm.conf",
        "PYTHONPATH": "/camnet",
    }
