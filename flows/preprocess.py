"""Layer 1 as a flow: slides to shards, one task a slide or a part of a large one, on the Dask cluster of the site."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from prefect.artifacts import create_table_artifact

from flows.context import RunContext
from flows.course import Course, CourseWatch
from flows.open_cluster import open_cluster
from flows.site_flow import site_flow
from flows.slide_batch import preprocess_slides
from flows.slide_jobs import finished_outcome, patches_folder, slide_jobs, work_of
from tasks.artifacts import Artifact, Record, describe
from tasks.caching import content_key
from tasks.errors import InputError, IntegrityError
from tasks.patches.outcome import SlideOutcome
from transfer.manifest import MANIFEST_NAME, Kind, Manifest, manifest_of, read_manifest, write_manifest

MANIFEST_SCHEMA = "camnet-manifest/1"


class PreprocessResult(Record):
    """What Layer 1 made.

    Attributes
    ----------
    manifest
        Names all files that were finished, also when some slides failed.
    course
        Where the time went; None when all slides were found finished.
    """

    manifest: Artifact
    outcomes: tuple[SlideOutcome, ...]
    seconds: float
    course: Course | None = None

    @property
    def reused(self) -> bool:
        """All slides were found finished."""
        return all(outcome.reused for outcome in self.outcomes)


@site_flow
def preprocess(context: RunContext) -> PreprocessResult:
    """Find the slides of the cohort, cut their patches, write the manifest of the shards.

    Raises
    ------
    InputError
        There are no slides, or not one of them could be finished, or the site has no such cluster.
    RetryableFault, PermanentFault
        The site's cluster does not do the work; finished slides are kept.
    """
    watch = CourseWatch()
    jobs = slide_jobs(context)
    finished = {job.record.name: found for job in jobs if (found := finished_outcome(job)) is not None}
    pending = [work_of(job) for job in jobs if job.record.name not in finished]
    if pending:
        tasks = sum(map(len, pending))
        with open_cluster(context.source, run=context.config.name, tasks=tasks) as cluster:
            finished |= {outcome.slide: outcome for outcome in preprocess_slides(pending, watch.watched(cluster))}
        watch.passed("closing")
    outcomes = tuple(finished[job.record.name] for job in jobs)
    create_table_artifact(_table(outcomes), key="slides", description="Slides after preprocessing")
    if not any(outcome.state == "done" for outcome in outcomes):
        first = next((outcome for outcome in outcomes if outcome.state == "failed"), outcomes[0])
        raise InputError(
            f"none of the {len(outcomes)} slides could be used; {first.slide}: {first.reason}",
            subject=context.config.cohort.slides,
            remedy=first.remedy,
        )
    manifest = _write_manifest(context, outcomes)
    watch.passed("manifest")
    return PreprocessResult(
        manifest=manifest,
        outcomes=outcomes,
        seconds=watch.seconds,
        course=watch.course(pending) if pending else None,
    )


def _write_manifest(context: RunContext, outcomes: tuple[SlideOutcome, ...]) -> Artifact:
    root, folder = context.source.root, patches_folder(context, context.source)
    files: list[tuple[str, Kind, int | None, str | None]] = [
        (file.artifact.under(root).relative_to(folder).as_posix(), file.kind, file.rows, file.artifact.digest)
        for outcome in outcomes
        for file in outcome.files
    ]
    manifest = manifest_of(folder, files, run=context.config.name, site=context.source.name)
    if not _is_written(folder / MANIFEST_NAME, manifest):
        write_manifest(folder / MANIFEST_NAME, manifest)
    key = content_key(MANIFEST_SCHEMA, inputs=[manifest.digest], config=None, code=[])
    return describe(root, folder / MANIFEST_NAME, made_by=MANIFEST_SCHEMA, key=key)


def _is_written(path: Path, manifest: Manifest) -> bool:
    try:
        return read_manifest(path).digest == manifest.digest
    except (InputError, IntegrityError):
        return False


def _table(outcomes: tuple[SlideOutcome, ...]) -> list[dict[str, Any]]:
    return [
        {
            "slide": outcome.slide,
            "split": outcome.split,
            "state": outcome.state + (" (found finished)" if outcome.reused else ""),
            "tumour": outcome.tumour_patches,
            "normal": outcome.normal_patches,
            "grid": outcome.grid_patches,
            "seconds": round(outcome.seconds, 1),
            "reason": outcome.reason,
        }
        for outcome in outcomes
    ]
