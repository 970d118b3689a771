"""Layer 1 as a plain sbatch job array, for sites that want no Dask; pure: values in, the text of a script out."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from deployments.slurm_jobs import SlurmJobs
from flows.runners import log_pattern


def part_of(count: int, task: int, of: int) -> range:
    """Give the indices of the slides (or parts) that array task `task` of `of` does: each is in exactly one."""
    return range(task, count, of)


def open_tasks(pending: Sequence[bool], of: int) -> list[int]:
    """List the array tasks that have a slide to do.

    Parameters
    ----------
    pending
        For each slide, in the order of the cohort, whether it is still to do.
    of
        Number of array tasks that share the slides.
    """
    return [task for task in range(of) if any(pending[index] for index in part_of(len(pending), task, of))]


def index_ranges(indices: Sequence[int]) -> str:
    """Write ascending indices as sbatch wants them: ``0-3,7``."""
    runs: list[list[int]] = []
    for index in indices:
        if runs and runs[-1][1] == index - 1:
            runs[-1][1] = index
        else:
            runs.append([index, index])
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in runs)


def array_script(jobs: SlurmJobs, *, name: str, command: Sequence[str], tasks: Sequence[int], of: int) -> str:
    """Write the script of a job array; each task gets the cores and memory of one worker.

    Parameters
    ----------
    name
        Name of the job.
    command
        What each task runs; ``--task INDEX --of COUNT`` is added to it.
    tasks
        Indices of the array tasks to run, ascending, out of `of`.

    Raises
    ------
    InputError
        The log folder's name cannot stand in a script.
    """
    directives = [
        f"--job-name={name}",
        f"--array={index_ranges(tasks)}%{jobs.maximum_jobs}",
        f"--output={log_pattern(jobs, name, '%A_%a')}",
        *([f"--partition={jobs.queue}"] if jobs.queue else []),
        *([f"--account={jobs.account}"] if jobs.account else []),
        f"--time={jobs.walltime}",
        "--ntasks=1",
        f"--cpus-per-task={jobs.cores // jobs.processes}",
        f"--mem={jobs.memory_mib // jobs.processes}M",
        *jobs.job_extra_directives,
    ]
    lines = [
        "#!/bin/bash",
        *(f"#SBATCH {directive}" for directive in directives),
        *jobs.job_script_prologue,
        f'exec {shlex.join(command)} --task "$SLURM_ARRAY_TASK_ID" --of {of}',
    ]
    return "\n".join(lines) + "\n"
