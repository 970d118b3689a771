"""The Dask cluster of a site, open as long as there are slides to do."""

from __future__ import annotations

import getpass
import importlib
import ipaddress
import secrets
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import dask.config
from distributed import LocalCluster
from prefect.settings import get_current_settings
from prefect_dask.task_runners import DaskTaskRunner

from deployments.sites import Site
from deployments.slurm_jobs import SlurmJobs
from flows.runners import ONE_SLIDE_A_WORKER, adaptive_bounds, dask_settings, local_keywords, slurm_keywords
from flows.slurm_classes import SLURMCluster
from flows.slurm_commands import ask_slurm, refuse_missing_commands
from flows.slurm_watch import SlurmWatch, Submissions, SubmittedJob
from tasks.errors import InputError


@dataclass(frozen=True)
class OpenCluster:
    """A cluster that takes tasks, and has no workers yet.

    Attributes
    ----------
    runner
        Prefect's way to it.
    begin
        To be called when all tasks are in its queue; the workers come. Dask then hands out one slide a worker: a
        slide that waits at a worker, as it does otherwise, would share the blame when that worker dies.
    check
        To be called while waiting for results; raises a `CamNetError` when waiting is no use.
    workers
        Gives how many are there now.
    """

    runner: DaskTaskRunner
    begin: Callable[[], object]
    check: Callable[[], None]
    workers: Callable[[], int]


def open_cluster(site: Site, *, run: str, tasks: int) -> AbstractContextManager[OpenCluster]:
    """Open the cluster that the ``[dask]`` table of a site describes; close it, and end its jobs, after the block.

    Parameters
    ----------
    run
        Name of the run, for the names of the jobs.
    tasks
        How many can be done at the same time: never more workers are asked for.

    Raises
    ------
    InputError
        The table asks for what there is not.
    """
    if site.dask.cluster == "local":
        return _local(site, tasks)
    if site.dask.slurm is not None and site.dask.cluster == "slurm":
        return _slurm(site, site.dask.slurm, run, tasks)
    return _of_class(site, tasks)


@contextmanager
def _local(site: Site, tasks: int) -> Iterator[OpenCluster]:
    workers = min(site.dask.workers, tasks)
    with dask.config.set(ONE_SLIDE_A_WORKER), _made(LocalCluster, local_keywords(site.dask, workers), site) as cluster:
        yield _opened(cluster, lambda: cluster.scale(workers))


@contextmanager
def _of_class(site: Site, tasks: int) -> Iterator[OpenCluster]:
    module, _, name = site.dask.cluster.rpartition(".")
    try:
        kind = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise InputError(
            f"there is no cluster class {site.dask.cluster} ({error})",
            subject=f"site {site.name}",
            remedy="correct cluster in [dask] of the site file, or install the package that has it",
        ) from error
    with dask.config.set(ONE_SLIDE_A_WORKER), _made(kind, site.dask.keywords, site) as cluster:
        most = min(site.dask.workers, tasks)
        yield _opened(cluster, lambda: cluster.adapt(minimum_jobs=1, maximum_jobs=most))


@contextmanager
def _slurm(site: Site, jobs: SlurmJobs, run: str, tasks: int) -> Iterator[OpenCluster]:
    refuse_missing_commands(f"site {site.name}", "set cluster = 'local' in its [dask] table")
    _refuse_unreachable_server(jobs)
    name = f"camnet-{run}-{secrets.token_hex(4)}"
    jobs.log_directory.mkdir(parents=True, exist_ok=True)
    submissions = Submissions()
    keywords = {
        "job_cls": SubmittedJob,
        "submissions": submissions,
        **slurm_keywords(jobs, name=name, python=sys.executable),
        **site.dask.keywords,
    }
    with dask.config.set(dask_settings(jobs)):
        try:
            with _made(SLURMCluster, keywords, site) as cluster:
                watch = SlurmWatch(jobs, site=site.name, name=name, cluster=cluster, submissions=submissions)
                bounds = adaptive_bounds(jobs, tasks)
                try:
                    yield _opened(cluster, lambda: cluster.adapt(**bounds), watch)
                finally:
                    submissions.over = True
        finally:
            # Dask forgets a job when it is told to close while that job is being submitted.
            ask_slurm("scancel", "--quiet", f"--name={name}", f"--user={getpass.getuser()}")


def _made(kind: Callable[..., Any], keywords: dict[str, Any], site: Site) -> Any:  # noqa: ANN401  # a cluster; its library has no types
    try:
        return kind(**keywords)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(
            f"{site.dask.cluster}: the cluster does not start: {error}",
            subject=f"site {site.name}",
            remedy="correct [dask] in the site file",
        ) from error


def _nothing_to_check() -> None:
    """Give a cluster that knows no reason to stop waiting something to call."""


def _opened(
    cluster: Any,  # noqa: ANN401  # its library has no types
    begin: Callable[[], object],
    check: Callable[[], None] = _nothing_to_check,
) -> OpenCluster:
    runner = DaskTaskRunner(address=cluster.scheduler_address)
    return OpenCluster(runner, begin, check, lambda: len(cluster.scheduler_info["workers"]))


def _refuse_unreachable_server(jobs: SlurmJobs) -> None:
    url = get_current_settings().api.url or ""
    if _is_loopback(urlsplit(url).hostname or "") and jobs.interface != "lo":
        raise InputError(
            "this Prefect server can be reached from this machine only, and the jobs run on others",
            subject=url or "PREFECT_API_URL",
            remedy="start one that the nodes reach (`prefect server start --host ADDRESS`) and set PREFECT_API_URL, "
            "or use `camnet preprocess --sbatch-array`, which needs none; a Slurm on one machine: interface = 'lo'",
        )


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host in ("", "localhost")
