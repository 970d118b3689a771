"""Many slides at once: one Prefect task a slide, on an open cluster."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from http import HTTPStatus
from typing import Any
from uuid import UUID

from distributed.scheduler import KilledWorker
from httpx import HTTPStatusError
from prefect import flow, get_client
from prefect.artifacts import create_progress_artifact, update_progress_artifact
from prefect.futures import PrefectFuture
from prefect.states import Crashed

from flows.open_cluster import OpenCluster
from flows.slide_jobs import broken_off, outcome_line
from tasks.errors import PermanentFault
from tasks.patches.outcome import SlideOutcome
from tasks.patches.slide_job import SlideJob
from tasks.patches.task import preprocess_slide_task

log = logging.getLogger(__name__)
_POLL_S = 0.2
# The jobs are neither parameters nor closure of the flow: Prefect sends both along with every task, and its server
# takes 512 kB of parameters, which is some 500 slides.
_BATCH: ContextVar[tuple[list[SlideJob], OpenCluster]] = ContextVar("batch")


def preprocess_slides(jobs: list[SlideJob], cluster: OpenCluster) -> list[SlideOutcome]:
    """Do all slides, in any order; a task that cannot run at all is a failed slide, not a failed flow.

    Raises
    ------
    CamNetError
        The cluster will not do the rest; what is finished stays finished.
    """
    # prefect-dask types its runner by Dask futures, which Prefect's signature does not admit.
    as_flow = flow(name="preprocess-slides", task_runner=cluster.runner)(_do_batch)  # type: ignore[arg-type]
    token = _BATCH.set((jobs, cluster))
    try:
        return as_flow()
    finally:
        _BATCH.reset(token)


def _do_batch() -> list[SlideOutcome]:
    jobs, cluster = _BATCH.get()
    progress = _Progress(len(jobs))
    outcomes = []
    for outcome in _as_they_end(jobs, cluster):
        outcomes.append(outcome)
        log.info("slide %d/%d %s", len(outcomes), len(jobs), outcome_line(outcome))
        progress.update(len(outcomes))
    return outcomes


def _as_they_end(jobs: list[SlideJob], cluster: OpenCluster) -> Iterator[SlideOutcome]:
    waiting: dict[str, tuple[SlideJob, Any]] = {
        job.record.name: (job, preprocess_slide_task.submit(job)) for job in jobs
    }
    cluster.begin()
    while waiting:
        ended = [name for name, (_, future) in waiting.items() if future.wrapped_future.done()]
        for name in ended:
            # A result that we keep hold of would be made again when its worker is lost.
            yield _outcome(*waiting.pop(name))
        if not ended:
            cluster.check()
            time.sleep(_POLL_S)


def _outcome(job: SlideJob, future: PrefectFuture[SlideOutcome]) -> SlideOutcome:
    try:
        return future.result()
    except KilledWorker as error:
        fault = PermanentFault(
            f"its worker died {error.allowed_failures + 1} times at it",
            remedy="see the logs of the workers: mostly it needs more memory than they have or more time than their "
            "jobs, or breaks the program that reads it; give them more or take the slide out of the cohort, "
            "then run again",
        )
        _tell_server(future.task_run_id, fault.cause)
        return broken_off(job, fault)
    except Exception as error:  # the other slides go on, whatever it was; the report names it
        return broken_off(job, error)


def _tell_server(task_run: UUID, cause: str) -> None:
    """End the task run in the UI, where it would run for ever: nobody is left at its worker to do so."""
    with _server_may_be_away(), get_client(sync_client=True) as client:
        try:
            client.set_task_run_state(task_run, Crashed(message=cause), force=True)
        except HTTPStatusError as error:
            if error.response.status_code != HTTPStatus.NOT_FOUND:  # then it died before it told of its task
                raise


class _Progress:
    """Share of the slides that have ended, in the UI."""

    def __init__(self, slides: int) -> None:
        self._slides = slides
        self._artifact: Any = None
        with _server_may_be_away():
            self._artifact = create_progress_artifact(0.0, key="slides-progress", description=self._told(0))

    def update(self, ended: int) -> None:
        if self._artifact is not None:
            with _server_may_be_away():
                share = 100.0 * ended / self._slides
                update_progress_artifact(self._artifact, share, description=self._told(ended))

    def _told(self, ended: int) -> str:
        return f"{ended} of {self._slides} slides"


@contextmanager
def _server_may_be_away() -> Iterator[None]:
    """Go on with the slides also when the server does not hear of them: hours of work are worth more."""
    try:
        yield
    except Exception as error:  # whatever its client raises
        log.warning("the Prefect server was not told: %s", error)
