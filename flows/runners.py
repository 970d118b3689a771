"""What a site file means in the words of Dask: pure translations."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

from deployments.sites import DaskCluster
from deployments.slurm_jobs import SlurmJobs
from tasks.errors import InputError

WORKER_CLASS = "flows.finishing_worker.FinishingWorker"
# A slide of unknown length is taken for one that is worth a worker of its own, or few jobs would be asked for at first.
_UNKNOWN_SLIDE_S = 60
# Dask would send a worker more than it has threads for, so that it never waits; a slide is worth waiting for.
ONE_SLIDE_A_WORKER = {"distributed.scheduler.worker-saturation": 1.0}


def local_keywords(cluster: DaskCluster, workers: int) -> dict[str, Any]:
    """Give the keywords of a `distributed.LocalCluster` that will have `workers` processes of one thread."""
    return {
        "threads_per_worker": 1,
        "memory_limit": 1 / workers,  # as a share of the machine's
        # A dashboard on its usual port would collide with that of another run on the same machine.
        "dashboard_address": "127.0.0.1:0",
        **cluster.keywords,
        "n_workers": 0,
    }


def slurm_keywords(jobs: SlurmJobs, *, name: str, python: str) -> dict[str, Any]:
    """Give the keywords of `dask_jobqueue.SLURMCluster`.

    Parameters
    ----------
    name
        Name of the jobs in the queue.
    python
        Interpreter of the workers, a path that the nodes see too.
    """
    return {
        "queue": jobs.queue,
        "account": jobs.account,
        "walltime": jobs.walltime,
        # Dask divides its cores among a job's workers as threads, each of which would take a slide.
        "cores": jobs.processes,
        "processes": jobs.processes,
        "job_cpu": jobs.cores,
        "memory": f"{jobs.memory_mib}MiB",
        "job_mem": f"{jobs.memory_mib}M",
        "job_extra_directives": [f"--output={log_pattern(jobs, name)}", *jobs.job_extra_directives],
        "job_script_prologue": list(jobs.job_script_prologue),
        "job_name": name,
        "python": shlex.quote(python),
        "interface": jobs.interface,
        # In double quotes the node's shell still fills in $TMPDIR.
        "local_directory": None if jobs.local_directory is None else f'"{jobs.local_directory}"',
        "worker_extra_args": worker_options(jobs),
        "scheduler_options": {"dashboard_address": "127.0.0.1:0"},
        # What its scheduler logs as an error we tell as an error, or recover from.
        "silence_logs": "critical",
    }


def worker_options(jobs: SlurmJobs) -> list[str]:
    """Give the options of ``dask worker``; it draws a lifetime around a middle, we name the earliest and latest."""
    earliest_s, latest_s = jobs.lifetime_s
    return [
        "--lifetime",
        f"{(earliest_s + latest_s) / 2:g}s",
        "--lifetime-stagger",
        f"{(latest_s - earliest_s) / 2:g}s",
        "--worker-class",
        WORKER_CLASS,
        "--no-dashboard",
    ]


def adaptive_bounds(jobs: SlurmJobs, tasks: int) -> dict[str, int]:
    """Give the bounds of the number of jobs: no more than so many tasks can use."""
    most = min(jobs.maximum_jobs, -(-tasks // jobs.processes))
    return {"minimum_jobs": min(jobs.minimum_jobs, most), "maximum_jobs": most}


def dask_settings(jobs: SlurmJobs) -> dict[str, Any]:
    """Give the settings of Dask that a Slurm site needs, by their names in `dask.config`."""
    return {
        "distributed.deploy.lost-worker-timeout": f"{jobs.lost_worker_timeout_s:g}s",
        "distributed.scheduler.allowed-failures": jobs.allowed_failures,
        "distributed.scheduler.unknown-task-duration": f"{_UNKNOWN_SLIDE_S}s",
        **ONE_SLIDE_A_WORKER,
    }


def log_pattern(jobs: SlurmJobs, name: str, suffix: str = "%j") -> str:
    """Give the path of the log files as sbatch wants it in a line of a job script.

    Raises
    ------
    InputError
        The folder's name has characters that cannot stand there.
    """
    return sbatch_path(
        jobs.log_directory, f"/{name}-{suffix}.log", remedy="set log_directory in [dask.slurm] of the site file"
    )


def sbatch_path(path: Path, pattern: str = "", *, remedy: str) -> str:
    """Write a path, and a pattern of sbatch after it, as it stands in a line of a job script.

    Raises
    ------
    InputError
        The path has characters that cannot stand there.
    """
    if any(character in '"\\' or ord(character) < 32 for character in str(path)):
        raise InputError(
            "has quotes, backslashes or control characters, which sbatch does not take in the path of a log",
            subject=path,
            remedy=f"{remedy} to another folder",
        )
    return '"' + str(path).replace("%", "%%") + f'{pattern}"'
