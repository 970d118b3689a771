from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import pytest
from dask.utils import parse_timedelta
from hypothesis import given
from hypothesis import strategies as st

from deployments.sites import DaskCluster
from deployments.slurm_jobs import SlurmJobs
from flows.runners import adaptive_bounds, dask_settings, local_keywords, log_pattern, slurm_keywords, worker_options
from flows.slurm_classes import SLURMJob
from tasks.errors import InputError


def jobs(**changes: Any) -> SlurmJobs:  # noqa: ANN401  # fields of the record
    base = {"walltime": "2:00:00", "memory_mib": 4000, "log_directory": "/logs", "cores": 8}
    return SlurmJobs.model_validate(base | changes)


def script_of(wanted: SlurmJobs, python: str = "/venv/bin/python") -> list[str]:
    """The job script that dask-jobqueue makes of our keywords, line by line."""
    keywords = slurm_keywords(wanted, name="camnet-x", python=python)
    for of_the_cluster in ("scheduler_options", "silence_logs"):
        del keywords[of_the_cluster]
    script: str = SLURMJob("tcp://10.0.0.1:1", name="w", **keywords).job_script()
    return script.splitlines()


def test_a_job_asks_slurm_for_what_the_site_file_says() -> None:
    lines = script_of(
        jobs(
            queue="cpu",
            account="me",
            processes=2,
            job_extra_directives=("--qos=long",),
            job_script_prologue=("module load x",),
            interface="ib0",
            local_directory="$TMPDIR/dask",
        )
    )
    directives = {line.removeprefix("#SBATCH ") for line in lines if line.startswith("#SBATCH")}
    assert directives == {
        "-J camnet-x",
        "-p cpu",
        "-A me",
        "-n 1",
        "--cpus-per-task=8",
        "--mem=4000M",
        "-t 2:00:00",
        '--output="/logs/camnet-x-%j.log"',
        "--qos=long",
    }
    assert lines.index("module load x") == len(lines) - 2
    worker = lines[-1]
    assert worker.startswith("/venv/bin/python -m distributed.cli.dask_worker tcp://10.0.0.1:1 ")
    assert "--nworkers 2" in worker
    assert "--nthreads 1 " in worker
    assert "--memory-limit 1.95GiB" in worker
    assert '--local-directory "$TMPDIR/dask"' in worker
    assert "--interface ib0" in worker
    assert "--worker-class flows.finishing_worker.FinishingWorker" in worker


def test_what_is_not_said_is_left_to_the_cluster() -> None:
    lines = script_of(jobs())
    assert not [line for line in lines if line.startswith(("#SBATCH -p", "#SBATCH -A"))]
    assert "--interface" not in lines[-1]
    assert "--local-directory" not in lines[-1]


def test_a_python_in_a_folder_with_spaces_is_one_word_of_the_script() -> None:
    assert shlex.split(script_of(jobs(), python="/my venv/it's/python")[-1])[0] == "/my venv/it's/python"


@given(st.integers(0, 3600), st.integers(0, 3600))
def test_dask_draws_a_lifetime_within_ours(margin_s: int, stagger_s: int) -> None:
    wanted = jobs(walltime="3:00:00", lifetime_margin_s=margin_s, lifetime_stagger_s=stagger_s)
    options = worker_options(wanted)
    middle_s = parse_timedelta(options[options.index("--lifetime") + 1])
    spread_s = parse_timedelta(options[options.index("--lifetime-stagger") + 1])
    assert (middle_s - spread_s, middle_s + spread_s) == wanted.lifetime_s
    assert middle_s + spread_s == 3 * 3600 - margin_s


@given(st.integers(0, 50), st.integers(1, 50), st.integers(1, 8), st.integers(1, 200))
def test_bounds_never_exceed_the_site_s_or_what_the_slides_can_use(
    minimum: int, more: int, processes: int, slides: int
) -> None:
    wanted = jobs(minimum_jobs=minimum, maximum_jobs=minimum + more, processes=processes)
    bounds = adaptive_bounds(wanted, slides)
    assert 0 <= bounds["minimum_jobs"] <= bounds["maximum_jobs"] <= minimum + more
    assert (bounds["maximum_jobs"] - 1) * processes < slides
    assert bounds["maximum_jobs"] == minimum + more or bounds["maximum_jobs"] * processes >= slides


def test_the_scheduler_gets_the_site_s_patience() -> None:
    settings = dask_settings(jobs(lost_worker_timeout_s=2.5, allowed_failures=0))
    assert settings["distributed.deploy.lost-worker-timeout"] == "2.5s"
    assert settings["distributed.scheduler.allowed-failures"] == 0
    assert settings["distributed.scheduler.worker-saturation"] == 1.0


def test_keywords_of_a_local_cluster_go_before_ours_but_its_workers_come_later() -> None:
    cluster = DaskCluster(keywords={"memory_limit": "2GiB", "n_workers": 7})
    assert local_keywords(cluster, 2) == {
        "threads_per_worker": 1,
        "memory_limit": "2GiB",
        "dashboard_address": "127.0.0.1:0",
        "n_workers": 0,
    }
    assert local_keywords(DaskCluster(), 4)["memory_limit"] == 0.25


def test_a_percent_sign_in_the_log_folder_is_no_pattern() -> None:
    assert log_pattern(jobs(log_directory="/my logs/100%"), "x") == '"/my logs/100%%/x-%j.log"'


@pytest.mark.parametrize("folder", ['/a"b', "/a\\b", "/a\nb"])
def test_a_log_folder_that_sbatch_would_misread_is_refused(folder: str) -> None:
    with pytest.raises(InputError, match="sbatch does not take") as caught:
        log_pattern(jobs(log_directory=folder), "x")
    assert caught.value.subject == str(Path(folder))
