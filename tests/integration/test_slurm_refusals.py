"""What keeps Slurm from doing the work is an error with a name, not an endless wait."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tasks.errors import ExitCode
from tests.services.camnet_cli import TRAIN, camnet, write_config
from tests.services.slurm import Slurm, running_slurm, slurm_sites
from tests.services.wait_for_workers import Case, troubles

pytestmark = pytest.mark.slow
# Port 9 discards what it is sent, if anybody listens at all.
DEAF = (
    "ClusterName=x\nSlurmctldHost=localhost(127.0.0.1)\nSlurmctldPort=9\nMessageTimeout=2\nAuthInfo=socket={socket}\n"
)


@pytest.fixture(scope="module")
def slurm() -> Iterator[Slurm]:
    with running_slurm(nodes=1) as slurm:
        yield slurm


@pytest.fixture(scope="module")
def told(slurm: Slurm, prefect_url: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, str]]:
    """What is told of sites each of which is wrong in its own way."""
    folder = tmp_path_factory.mktemp("sites")

    def case(name: str, table: str = "", environment: dict[str, str] | None = None, **jobs: object) -> Case:
        site = slurm_sites(folder / name, **jobs) / "site-a.toml"
        site.write_text(site.read_text() + table)
        return Case(site, environment or {})

    of_class = case("class")
    of_class.site.write_text(
        of_class.site.read_text().replace('cluster = "slurm"', 'cluster = "dask_jobqueue.Nothing"')
    )
    (folder / "deaf.conf").write_text(DEAF.format(socket=slurm.folder / "munge.sock"))
    cases = {
        "queue": case("queue", queue="no-such-queue"),
        "memory": case("memory", memory_mib=1_000_000),
        "option": case("option", job_extra_directives=["--no-such-option"]),
        "walltime": case("walltime", walltime="2-00:00:00"),
        "prologue": case("prologue", job_script_prologue=["echo no module of that name", "exit 3"]),
        "keyword": case("keyword", table="[dask.keywords]\ncoers = 2\n"),
        "class": of_class,
        "commands": case("commands", environment={"PATH": str(folder)}),
        "server": case("server", interface="eth0"),
        "deaf": case("deaf", environment={"SLURM_CONF": str(folder / "deaf.conf")}, queue_timeout_s=4),
    }
    return troubles(cases, {**slurm.environment, "PREFECT_API_URL": prefect_url})


@pytest.mark.parametrize(
    ("name", "kind", "cause", "remedy"),
    [
        ("queue", "InputError", "Slurm refuses the jobs: invalid partition specified: no-such-queue", "[dask.slurm]"),
        ("memory", "InputError", "Requested node configuration is not available", "[dask.slurm]"),
        ("option", "InputError", "unrecognized option '--no-such-option'", "[dask.slurm]"),
        ("walltime", "InputError", "they would wait for ever (PartitionTimeLimit)", "[dask.slurm]"),
        ("prologue", "PermanentFault", "the last one said: no module of that name", "slurm-logs"),
        ("keyword", "InputError", "coers", "[dask]"),
        ("class", "InputError", "there is no cluster class dask_jobqueue.Nothing", "cluster in [dask]"),
        ("commands", "InputError", "Slurm's commands are not on this machine (sbatch, squeue, scancel)", "login node"),
        ("server", "InputError", "this Prefect server can be reached from this machine only", "--sbatch-array"),
        ("deaf", "RetryableFault", "Unable to contact slurm controller", "run again"),
    ],
)
def test_no_wait_is_in_vain(told: dict[str, dict[str, str]], name: str, kind: str, cause: str, remedy: str) -> None:
    error = told[name]
    assert error["type"] == kind, error
    assert cause in error["cause"]
    assert remedy in error["remedy"]
    assert "site-a" in error["subject"] or name == "server"


def test_nothing_of_it_is_left_in_the_queue(told: dict[str, dict[str, str]], slurm: Slurm) -> None:
    assert told
    assert slurm.unfinished() == []


def test_a_queue_that_never_moves_ends_the_run(slurm: Slurm, cohort: Path, tmp_path: Path, prefect_url: str) -> None:
    sites = slurm_sites(tmp_path / "sites", queue_timeout_s=10, job_extra_directives=["--hold"])
    config = write_config(tmp_path / "run.toml", cohort, more=f'sites = "{sites}"\n{TRAIN}')
    environment = {**slurm.environment, "PREFECT_API_URL": prefect_url}
    done = camnet("preprocess", "-c", config, "-w", tmp_path / "ws", environment=environment)
    assert done.code == ExitCode.RETRY_LATER, done.errors
    assert "PENDING (JobHeldUser)" in done.error["cause"]
    assert "queue_timeout_s" in done.error["remedy"]
    assert slurm.unfinished() == []
