from __future__ import annotations

import shlex
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from deployments.slurm_jobs import SlurmJobs
from flows.sbatch_array import array_script, index_ranges, open_tasks, part_of


def jobs(**changes: Any) -> SlurmJobs:  # noqa: ANN401  # fields of the record
    base = {"walltime": "2:00:00", "memory_mib": 4000, "log_directory": "/logs"}
    return SlurmJobs.model_validate(base | changes)


@given(st.integers(0, 300), st.integers(1, 50))
def test_each_slide_is_in_exactly_one_part_and_parts_differ_by_one_at_most(count: int, of: int) -> None:
    parts = [list(part_of(count, task, of)) for task in range(of)]
    assert sorted(index for part in parts for index in part) == list(range(count))
    sizes = {len(part) for part in parts}
    assert max(sizes) - min(sizes) <= 1


@given(st.lists(st.booleans(), min_size=1, max_size=60), st.integers(1, 60))
def test_only_tasks_with_a_slide_to_do_are_run_and_all_of_these(pending: list[bool], of: int) -> None:
    tasks = open_tasks(pending, of)
    assert tasks == sorted(set(tasks))
    done = {index for task in tasks for index in part_of(len(pending), task, of)}
    assert {index for index, waits in enumerate(pending) if waits} <= done
    assert all(any(pending[index] for index in part_of(len(pending), task, of)) for task in tasks)


@given(st.sets(st.integers(0, 40)).map(sorted))
def test_ranges_name_the_indices_and_no_others(indices: list[int]) -> None:
    named: list[int] = []
    for part in index_ranges(indices).split(",") if indices else []:
        first, _, last = part.partition("-")
        named += range(int(first), int(last or first) + 1)
    assert named == indices


def test_ranges_are_short() -> None:
    assert index_ranges([0, 1, 2, 3, 7, 9, 10]) == "0-3,7,9-10"


def test_a_task_gets_what_a_worker_of_a_job_would() -> None:
    wanted = jobs(
        queue="cpu",
        account="me",
        cores=9,
        processes=2,
        maximum_jobs=20,
        job_extra_directives=("--qos=long",),
        job_script_prologue=("module load x",),
    )
    assert array_script(wanted, name="camnet-x", command=["camnet", "do"], tasks=[0, 1, 5], of=6) == (
        "#!/bin/bash\n"
        "#SBATCH --job-name=camnet-x\n"
        "#SBATCH --array=0-1,5%20\n"
        '#SBATCH --output="/logs/camnet-x-%A_%a.log"\n'
        "#SBATCH --partition=cpu\n"
        "#SBATCH --account=me\n"
        "#SBATCH --time=2:00:00\n"
        "#SBATCH --ntasks=1\n"
        "#SBATCH --cpus-per-task=4\n"
        "#SBATCH --mem=2000M\n"
        "#SBATCH --qos=long\n"
        "module load x\n"
        'exec camnet do --task "$SLURM_ARRAY_TASK_ID" --of 6\n'
    )


@given(st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1), min_size=1))
def test_the_words_of_the_command_stay_words(command: list[str]) -> None:
    script = array_script(jobs(), name="x", command=command, tasks=[0], of=1)
    assert shlex.split(script.partition("exec ")[2])[: len(command)] == command
