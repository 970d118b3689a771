"""The slides of a run as jobs of Layer 1; knows no Prefect, so that a plain batch job starts quickly."""

from __future__ import annotations

import logging
from pathlib import Path

from deployments.sites import Site
from flows.context import RunContext
from tasks.errors import CamNetError, PermanentFault
from tasks.patches.outcome import SlideOutcome
from tasks.patches.preprocess import failed_outcome, find_outcome, preprocess_slide
from tasks.patches.slide_job import SlideJob
from tasks.slides.cohort import find_slides
from tasks.slides.split import assign_splits

log = logging.getLogger(__name__)


def slide_jobs(context: RunContext) -> list[SlideJob]:
    """List the slides of the cohort with their splits, in the order of their names."""
    config = context.config
    records = find_slides(config.cohort)
    splits = assign_splits(records, config.cohort.validation_fraction, config.cohort.test_fraction, config.seed)
    return [
        SlideJob(
            record=record,
            split=splits[record.name],
            config=config.preprocess,
            seed=config.seed,
            mpp=config.cohort.mpp if record.mpp is None else record.mpp,
            root=context.source.root,
            folder=patches_folder(context, context.source),
        )
        for record in records
    ]


def patches_folder(context: RunContext, site: Site) -> Path:
    """Folder of the shards and their manifest at a site."""
    return context.folder_at(site) / "patches"


def finished_outcome(job: SlideJob) -> SlideOutcome | None:
    """Look for finished work without reading the slide, so that no cluster is started for nothing."""
    key = job.known_key()
    return None if key is None else find_outcome(job, key)


def preprocess_here(job: SlideJob) -> SlideOutcome:
    """Do one slide in this process; whatever goes wrong is its outcome, so that the next one is done too."""
    try:
        outcome = preprocess_slide(job)
    except Exception as error:  # the other slides go on, whatever it was; the outcome names it
        outcome = broken_off(job, error)
    log.info(outcome_line(outcome))
    return outcome


def broken_off(job: SlideJob, error: BaseException) -> SlideOutcome:
    """Describe a slide whose work ended with an error that is none of the slide's own."""
    if isinstance(error, CamNetError):
        return failed_outcome(job, error)
    return failed_outcome(
        job,
        PermanentFault(
            f"its task ended with {type(error).__name__}: {error}",
            remedy="see the log of the task, then run again: finished slides are kept",
        ),
    )


def outcome_line(outcome: SlideOutcome) -> str:
    """Tell in one line what became of a slide."""
    if outcome.state != "done":
        return f"{outcome.slide} {outcome.state}: {outcome.reason}"
    return (
        f"{outcome.slide}: {outcome.tumour_patches} tumour, {outcome.normal_patches} normal, "
        f"{outcome.grid_patches} grid patches in {outcome.seconds:.1f} s"
    )
