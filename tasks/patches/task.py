"""Prefect's view of Layer 1: a slide, or a part of a large one, is a task."""

from __future__ import annotations

from prefect import task

from tasks.patches.effort import Effort
from tasks.patches.outcome import SlideOutcome
from tasks.patches.preprocess import prepare_slide, preprocess_part, preprocess_slide
from tasks.patches.slide_job import SlideJob, SlidePart


@task(name="preprocess-slide", task_run_name="slide-{name}", persist_result=True, result_serializer="json")
def preprocess_slide_task(
    name: str, work: SlideJob | SlidePart, *, only_prepare: bool = False
) -> SlideOutcome | Effort:
    """Run `preprocess_slide`, `preprocess_part` or `prepare_slide`.

    The outcome (paths and digests) is persisted, so that a lost worker loses nothing. It is one task for all three:
    Dask keeps the many tasks of one name until a worker is free. Those of a rare name it gives to busy workers, where
    they would share the blame when the worker dies.
    """
    if isinstance(work, SlidePart):
        return preprocess_part(work)
    return prepare_slide(work) if only_prepare else preprocess_slide(work)
