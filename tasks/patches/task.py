"""Prefect's view of Layer 1: one task a slide."""

from __future__ import annotations

from prefect import task

from tasks.patches.outcome import SlideOutcome
from tasks.patches.preprocess import preprocess_slide
from tasks.patches.slide_job import SlideJob


@task(name="preprocess-slide", task_run_name="slide-{job.record.name}", persist_result=True, result_serializer="json")
def preprocess_slide_task(job: SlideJob) -> SlideOutcome:
    """Run `preprocess_slide`; its outcome (paths and digests) is persisted, so that a lost worker loses nothing."""
    return preprocess_slide(job)
