"""The script of the Slurm job that a training runs in; pure: values in, text out."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

from deployments.rank_jobs import RankJobs
from flows.runners import sbatch_path

# What a batch system, or another training, has told this process and would tell the job's ranks wrongly.
_FOREIGN = ("SLURM_", "SBATCH_", "SRUN_", "HOROVOD_", "OMPI_", "PMIX_", "PMI_", "PRTE_", "PREFECT_", "CAMNET_")
_KEPT = {"SLURM_CONF", "SLURM_CLUSTERS", "CAMNET_CACHE"}


def ranks_script(
    jobs: RankJobs, *, name: str, command: Sequence[str], log_path: Path, ranks: int, cpus_per_rank: int
) -> str:
    """Write the script of a job with `ranks` ranks, as many on each of its nodes.

    Parameters
    ----------
    name
        Name of the job.
    command
        What the job runs once, on its first node.
    log_path
        Receives all that the job prints.

    Raises
    ------
    InputError
        The ranks do not fit the job, or the log's name cannot stand in a script.
    """
    nodes = jobs.nodes_for(ranks)
    each = ranks // nodes
    directives = [
        f"--job-name={name}",
        f"--output={sbatch_path(log_path, remedy='set root in the site file')}",
        "--open-mode=append",
        *([f"--partition={jobs.queue}"] if jobs.queue else []),
        *([f"--account={jobs.account}"] if jobs.account else []),
        f"--time={jobs.walltime}",
        f"--nodes={nodes}",
        f"--ntasks-per-node={each}",
        f"--cpus-per-task={cpus_per_rank}",
        f"--mem={jobs.memory_mib * each}M",
        *([f"--gres=gpu:{jobs.gpus_per_node}"] if jobs.gpus_per_node else []),
        # To the script alone, which tells the ranks.
        *([f"--signal=B:USR1@{jobs.warning_s}"] if jobs.warning_s else []),
        # Begun again by Slurm, it would go on beside the training that the flow has begun anew.
        "--no-requeue",
        # Slurm may take a job and be too slow to say so; the same one, submitted again, never runs beside it.
        "--dependency=singleton",
        *jobs.job_extra_directives,
    ]
    lines = [
        "#!/bin/bash",
        *(f"#SBATCH {directive}" for directive in directives),
        *jobs.job_script_prologue,
        f"exec {shlex.join(command)}",
    ]
    return "\n".join(lines) + "\n"


def job_environment(environment: Mapping[str, str], *, package_root: Path) -> dict[str, str]:
    """Give what a job may inherit: modules and paths, nothing that speaks of another job; and where this code is."""
    kept = {name: value for name, value in environment.items() if name in _KEPT or not name.startswith(_FOREIGN)}
    return {**kept, "PYTHONPATH": str(package_root)}
