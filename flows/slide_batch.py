"""Many slides at once: one Prefect task a slide, or several for a large one, on an open cluster."""

from __future__ import annotations

import logging
import time
from collections import defaultdict
from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any
from uuid import UUID

from distributed.scheduler import KilledWorker
from httpx import HTTPStatusError
from prefect import flow, get_client
from prefect.futures import PrefectFuture
from prefect.states import Crashed

from flows.open_cluster import OpenCluster
from flows.slide_jobs import Work, broken_off, outcome_line, part_line, slide_of_work
from flows.slides_progress import SlidesProgress, server_may_be_away
from tasks.errors import PermanentFault
from tasks.patches.effort import Effort
from tasks.patches.outcome import SlideOutcome
from tasks.patches.preprocess import finish_slide
from tasks.patches.slide_job import SlideJob, SlidePart
from tasks.patches.task import preprocess_slide_task

log = logging.getLogger(__name__)
_POLL_S = 0.2
# The slides are neither parameters nor closure of the flow: Prefect sends both along with every task, and its server
# takes 512 kB of parameters, which is some 500 slides.
_BATCH: ContextVar[tuple[list[list[Work]], OpenCluster]] = ContextVar("batch")


def preprocess_slides(slides: list[list[Work]], cluster: OpenCluster) -> list[SlideOutcome]:
    """Do all slides, in any order; a task that cannot run at all is a failed slide, not a failed flow.

    Parameters
    ----------
    slides
        The work of each slide (see `flows.slide_jobs.work_of`): the slide itself, or its parts.

    Raises
    ------
    CamNetError
        The cluster will not do the rest; what is finished stays finished.
    """
    # prefect-dask types its runner by Dask futures, which Prefect's signature does not admit.
    as_flow = flow(name="preprocess-slides", task_runner=cluster.runner)(_do_batch)  # type: ignore[arg-type]
    token = _BATCH.set((slides, cluster))
    try:
        return as_flow()
    finally:
        _BATCH.reset(token)


def _do_batch() -> list[SlideOutcome]:
    slides, cluster = _BATCH.get()
    progress = SlidesProgress(len(slides))
    outcomes = []
    for outcome in _Batch(slides, progress).as_they_end(cluster):
        outcomes.append(outcome)
        log.info("slide %d/%d %s", len(outcomes), len(slides), outcome_line(outcome))
        progress.slide_ended(outcome.slide)
    return outcomes


@dataclass(frozen=True, eq=False)
class _Task:
    """A task on its way. `part` is None for a whole slide, and for the masks of a slide in parts."""

    slide: list[Work]
    part: SlidePart | None
    future: PrefectFuture[Any]

    @property
    def job(self) -> SlideJob:
        return slide_of_work(self.slide[0])

    @property
    def has_ended(self) -> bool:
        return bool(self.future.wrapped_future.done())  # type: ignore[attr-defined]  # a future of Dask


class _Batch:
    """The tasks of all slides."""

    def __init__(self, slides: list[list[Work]], progress: SlidesProgress) -> None:
        # Large slides first: their parts, which can only follow, then fill the workers up to the end.
        self._waiting = [_begin(slide) for slide in sorted(slides, key=len, reverse=True)]
        self._parts: dict[str, dict[int, SlideOutcome]] = defaultdict(dict)
        self._prepared: dict[str, Effort] = {}
        self._progress = progress

    def as_they_end(self, cluster: OpenCluster) -> Iterator[SlideOutcome]:
        """Wait for the tasks and give each slide that has ended."""
        cluster.begin()
        while self._waiting:
            ended = [task for task in self._waiting if task.has_ended]
            self._waiting = [task for task in self._waiting if task not in ended]
            while ended:
                # A result that we keep hold of would be made again when its worker is lost.
                outcome = self._take(ended.pop(0))
                if outcome is not None:
                    yield outcome
            cluster.check()
            time.sleep(_POLL_S)

    def _take(self, task: _Task) -> SlideOutcome | None:
        """Give the outcome of the slide if this was its last task."""
        outcome = _outcome(task)
        if isinstance(outcome, Effort):
            self._prepared[task.job.record.name] = outcome
            self._progress.slide_begins(task.job.record.name, len(task.slide))
            for part in task.slide:
                if isinstance(part, SlidePart):
                    name = f"{task.job.record.name}-{part.name}"
                    self._waiting.append(_Task(task.slide, part, preprocess_slide_task.submit(name, part)))
            return None
        return outcome if task.part is None else self._take_part(task.part, outcome, len(task.slide))

    def _take_part(self, part: SlidePart, outcome: SlideOutcome, of: int) -> SlideOutcome | None:
        log.info(part_line(part, outcome))
        name = part.job.record.name
        ended = self._parts[name]
        ended[part.number] = outcome
        self._progress.part_ended(name)
        if len(ended) < of:
            return None
        try:
            return finish_slide(part.job, [ended[number] for number in range(of)], self._prepared[name])
        except Exception as error:  # the other slides go on, whatever it was; the report names it
            return broken_off(part.job, error)


def _begin(slide: list[Work]) -> _Task:
    job = slide_of_work(slide[0])
    if len(slide) == 1:
        return _Task(slide, None, preprocess_slide_task.submit(job.record.name, job))
    return _Task(slide, None, preprocess_slide_task.submit(f"{job.record.name}-masks", job, only_prepare=True))


def _outcome(task: _Task) -> SlideOutcome | Effort:
    """Give what a task gave: what it took, for masks that are ready for the parts of their slide."""
    try:
        outcome: SlideOutcome | Effort = task.future.result()
    except KilledWorker as error:
        fault = PermanentFault(
            f"its worker died {error.allowed_failures + 1} times at it",
            remedy="see the logs of the workers: mostly it needs more memory than they have or more time than their "
            "jobs, or breaks the program that reads it; give them more or take the slide out of the cohort, "
            "then run again",
        )
        _tell_server(task.future.task_run_id, fault.cause)
        return broken_off(task.job, fault)
    except Exception as error:  # the other slides go on, whatever it was; the report names it
        return broken_off(task.job, error)
    return outcome


def _tell_server(task_run: UUID, cause: str) -> None:
    """End the task run in the UI, where it would run for ever: nobody is left at its worker to do so."""
    with server_may_be_away(), get_client(sync_client=True) as client:
        try:
            client.set_task_run_state(task_run, Crashed(message=cause), force=True)
        except HTTPStatusError as error:
            if error.response.status_code != HTTPStatus.NOT_FOUND:  # then it died before it told of its task
                raise
