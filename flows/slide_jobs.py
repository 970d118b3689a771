"""The slides of a run as jobs of Layer 1; knows no Prefect, so that a plain batch job starts quickly."""

from __future__ import annotations

import logging
from pathlib import Path

from deployments.sites import Site
from flows.context import RunContext
from tasks.errors import CamNetError, InputError, PermanentFault
from tasks.patches.outcome import SlideOutcome, failed_outcome
from tasks.patches.preprocess import find_outcome, preprocess_part, preprocess_slide
from tasks.patches.shard_names import is_like_a_part
from tasks.patches.slide_job import SlideJob, SlidePart
from tasks.patches.slide_parts import count_parts, find_part, slide_parts
from tasks.slides.cohort import SlideRecord, find_slides
from tasks.slides.cohort_split import split_cohort

log = logging.getLogger(__name__)
Work = SlideJob | SlidePart
"""What one task does: a slide, or a part of a large one."""


def slide_jobs(context: RunContext) -> list[SlideJob]:
    """List the slides of the cohort that have a split, in the order of their names."""
    config = context.config
    records = find_slides(config.cohort)
    _refuse_names_of_parts(records)
    splits = split_cohort(records, config.cohort, config.seed)
    if left_out := len(records) - len(splits):
        log.info("%d slides are left out: no split list names their patients", left_out)
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
        if record.name in splits
    ]


def patches_folder(context: RunContext, site: Site) -> Path:
    """Folder of the shards and their manifest at a site."""
    return context.folder_at(site) / "patches"


def finished_outcome(job: SlideJob) -> SlideOutcome | None:
    """Look for finished work without reading the slide, so that no cluster is started for nothing."""
    key = job.known_key()
    return None if key is None else find_outcome(job, key)


def work_of(job: SlideJob, parts: int | None = None) -> list[Work]:
    """Divide a slide into what can be done at the same time; its header is read unless the number of parts is given."""
    parts = count_parts(job) if parts is None else parts
    return [job] if parts == 1 else [*slide_parts(job, parts)]


def slide_of_work(work: Work) -> SlideJob:
    """Give the slide that some work belongs to."""
    return work if isinstance(work, SlideJob) else work.job


def is_finished(work: Work) -> bool:
    """Look for finished work without reading the slide."""
    if isinstance(work, SlideJob):
        return finished_outcome(work) is not None
    key = work.job.known_key()
    return key is not None and (find_part(work, key) is not None or find_outcome(work.job, key) is not None)


def preprocess_here(work: Work) -> SlideOutcome:
    """Do one slide or part in this process; whatever goes wrong is its outcome, so that the next one is done too."""
    try:
        outcome = preprocess_slide(work) if isinstance(work, SlideJob) else preprocess_part(work)
    except Exception as error:  # the other slides go on, whatever it was; the outcome names it
        outcome = broken_off(slide_of_work(work), error)
    log.info(outcome_line(outcome) if isinstance(work, SlideJob) else part_line(work, outcome))
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


def part_line(part: SlidePart, outcome: SlideOutcome) -> str:
    """Tell in one line what became of a part of a slide."""
    if outcome.state != "done":
        return f"{outcome.slide}, {part.name} {outcome.state}: {outcome.reason}"
    sampled = f"{outcome.tumour_patches} tumour, {outcome.normal_patches} normal patches"
    made = f"{outcome.grid_patches} grid patches" if part.number else sampled
    return f"{outcome.slide}, {part.name}: {made} in {outcome.seconds:.1f} s"


def _refuse_names_of_parts(records: list[SlideRecord]) -> None:
    for record in records:
        if is_like_a_part(record.name):
            raise InputError(
                "has the name of a part of another slide",
                subject=record.path,
                remedy="rename it, or give it another name in a table of slides",
            )
