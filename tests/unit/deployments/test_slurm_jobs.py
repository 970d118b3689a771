from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from deployments.sites import load_site
from deployments.slurm_jobs import SlurmJobs
from tasks.errors import InputError

SITE = 'name = "a"\nroot = "r"\n[dask]\ncluster = "slurm"\n[dask.slurm]\nwalltime = "2:00:00"\nmemory_mib = 4000\n'


def jobs(**changes: Any) -> SlurmJobs:  # noqa: ANN401  # fields of the record
    return SlurmJobs.model_validate({"walltime": "2:00:00", "memory_mib": 4000} | changes)


def site_of(folder: Path, text: str) -> Path:
    (folder / "site.toml").write_text(text)
    return folder / "site.toml"


@pytest.mark.parametrize(
    ("walltime", "seconds"),
    [("0:10:00", 600), ("02:00:30", 7230), ("120:00:00", 432_000), ("1-00:00:00", 86_400), ("2-03:04:05", 183_845)],
)
def test_a_walltime_is_days_hours_minutes_and_seconds(walltime: str, seconds: int) -> None:
    assert jobs(walltime=walltime, lifetime_margin_s=0, lifetime_stagger_s=0).walltime_s == seconds


@pytest.mark.parametrize("walltime", ["30", "30:00", "1-00", "1-00:00", "2h", "1:60:00", "1:00:61", "", "-1:00:00"])
def test_what_slurm_reads_in_more_than_one_way_is_refused(walltime: str) -> None:
    with pytest.raises(ValidationError, match="walltime"):
        jobs(walltime=walltime)


def test_a_worker_ends_between_the_margin_and_the_stagger_before_it() -> None:
    assert jobs(lifetime_margin_s=600, lifetime_stagger_s=120).lifetime_s == (7200 - 720, 7200 - 600)


def test_a_lifetime_that_leaves_no_time_for_work_is_refused_with_a_remedy(tmp_path: Path) -> None:
    path = site_of(tmp_path, SITE.replace("2:00:00", "0:06:00") + "lifetime_margin_s = 300\nlifetime_stagger_s = 60\n")
    with pytest.raises(InputError) as caught:
        load_site(path, workspace=tmp_path)
    assert "walltime = '0:06:00' less lifetime_margin_s and lifetime_stagger_s leaves 0 s for work" in str(caught.value)
    assert "ask for a longer walltime" in str(caught.value)
    assert caught.value.subject == str(path)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ("minimum_jobs = 5\n", "minimum_jobs = 5 is above maximum_jobs = 2"),
        ("processes = 2\n", "each worker needs a core"),
        ("wall_time = 1\n", "unknown key 'dask.slurm.wall_time' (did you mean 'walltime'?)"),
        ('queue = "cpu\\n#SBATCH --wrap"\n', "dask.slurm.queue"),
        ('account = "a b"\n', "dask.slurm.account"),
        ('interface = "-x"\n', "dask.slurm.interface"),
        ('local_directory = "/tmp/$(reboot)"\n', "dask.slurm.local_directory"),
        ('job_extra_directives = ["qos=long"]\n', "dask.slurm.job_extra_directives"),
        ('job_extra_directives = ["--a\\n--b"]\n', "dask.slurm.job_extra_directives"),
        ("lifetime_margin_s = inf\n", "lifetime_margin_s"),
        ("queue_timeout_s = 0\n", "queue_timeout_s"),
        ('log_directory = "$CAMNET_TEST_UNSET/x"\n', "variable that is not set"),
    ],
)
def test_a_wrong_key_is_an_input_error_of_the_site_file(tmp_path: Path, more: str, said: str) -> None:
    path = site_of(tmp_path, SITE + more)
    with pytest.raises(InputError) as caught:
        load_site(path, workspace=tmp_path)
    assert said in caught.value.cause
    assert caught.value.subject == str(path)
    assert caught.value.remedy


def test_slurm_without_its_table_is_refused(tmp_path: Path) -> None:
    path = site_of(tmp_path, SITE.split("[dask.slurm]")[0])
    with pytest.raises(InputError, match=r"needs a table \[dask.slurm\]"):
        load_site(path, workspace=tmp_path)


@pytest.mark.parametrize("cluster", ["Slurm", "lokal", ""])
def test_a_cluster_of_no_known_kind_is_refused(tmp_path: Path, cluster: str) -> None:
    path = site_of(tmp_path, SITE.replace('"slurm"', f'"{cluster}"'))
    with pytest.raises(InputError, match="neither local nor slurm nor the import path of a class"):
        load_site(path, workspace=tmp_path)


def test_logs_lie_below_the_root_unless_their_path_is_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CAMNET_TEST_LOGS", "/var/tmp/logs")  # noqa: S108  # nothing is written there
    for more, expected in (
        ("", tmp_path / "r" / "slurm-logs"),
        ('log_directory = "x"\n', tmp_path / "r" / "x"),
        ('log_directory = "$CAMNET_TEST_LOGS"\n', Path("/var/tmp/logs")),  # noqa: S108
    ):
        slurm = load_site(site_of(tmp_path, SITE + more), workspace=tmp_path).dask.slurm
        assert slurm is not None
        assert slurm.log_directory == expected
