"""Prefect's view of Layer 1: one task a slide, or one a part of a large slide."""

from __future__ import annotations

from prefect import task

from tasks.patches.outcome import SlideOutcome
from tasks.patches.preprocess import prepare_slide, preprocess_part, preprocess_slide
from tasks.patches.slide_job import SlideJob, SlidePart


@task(name="preprocess-slide", task_run_name="slide-{job.record.name}", persist_result=True, result_serializer="json")
def preprocess_slide_task(job: SlideJob) -> SlideOutcome:
    """Run `preprocess_slide`; its outcome (paths and digests) is persisted, so that a lost worker loses nothing."""
    return preprocess_slide(job)


@task(
    name="prepare-slide", task_run_name="slide-{job.record.name}-masks", persist_result=True, result_serializer="json"
)
def prepare_slide_task(job: SlideJob) -> SlideOutcome | None:
    """Run `prepare_slide`."""
    return prepare_slide(job)


@task(
    name="preprocess-part",
    task_run_name="slide-{part.job.record.name}-{part.name}",
    persist_result=True,
    result_serializer="json",
)
def preprocess_part_task(part: SlidePart) -> SlideOutcome:
    """Run `preprocess_part`."""
    return preprocess_part(part)
