"""Layer 1 as a flow: slides to shards, one task a slide, on the Dask cluster of the site."""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import Any

from prefect import flow
from prefect.artifacts import create_table_artifact
from prefect.futures import PrefectFuture
from prefect_dask.task_runners import DaskTaskRunner

from deployments.sites import DaskCluster, Site
from flows.context import RunContext
from flows.site_flow import site_flow
from tasks.artifacts import Artifact, Record, describe
from tasks.caching import content_key
from tasks.errors import InputError, IntegrityError, PermanentFault
from tasks.patches.outcome import SlideOutcome
from tasks.patches.preprocess import failed_outcome, find_outcome
from tasks.patches.slide_job import SlideJob
from tasks.patches.task import preprocess_slide_task
from tasks.slides.cohort import find_slides
from tasks.slides.split import assign_splits
from transfer.manifest import Kind, Manifest, manifest_of, read_manifest, write_manifest

log = logging.getLogger(__name__)
MANIFEST_NAME = "manifest.json"
MANIFEST_SCHEMA = "camnet-manifest/1"


class PreprocessResult(Record):
    """What Layer 1 made. `manifest` names all files that were finished, also when some slides failed."""

    manifest: Artifact
    outcomes: tuple[SlideOutcome, ...]
    seconds: float

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
        There are no slides, or not one of them could be finished.
    """
    started = time.monotonic()
    jobs = slide_jobs(context)
    finished = {job.record.name: found for job in jobs if (found := _finished(job)) is not None}
    pending = [job for job in jobs if job.record.name not in finished]
    if pending:
        runner = dask_task_runner(context.source.dask, most_workers=len(pending))
        # prefect-dask types its runner by Dask futures, which Prefect's signature does not admit.
        made = preprocess_slides.with_options(task_runner=runner)(pending)  # type: ignore[arg-type]
        finished |= {outcome.slide: outcome for outcome in made}
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
    return PreprocessResult(manifest=manifest, outcomes=outcomes, seconds=time.monotonic() - started)


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


@flow(name="preprocess-slides")
def preprocess_slides(jobs: list[SlideJob]) -> list[SlideOutcome]:
    """Run one task a slide; a task that cannot run at all is a failed slide, not a failed flow."""
    futures = [preprocess_slide_task.submit(job) for job in jobs]
    outcomes = []
    for job, future in zip(jobs, futures, strict=True):
        outcomes.append(_outcome(job, future))
        log.info("slide %d/%d %s", len(outcomes), len(jobs), _line(outcomes[-1]))
    return outcomes


def dask_task_runner(cluster: DaskCluster, most_workers: int) -> DaskTaskRunner:
    """Make the task runner of a site: a cluster on this machine, or any dask-jobqueue class with its keywords."""
    if cluster.cluster != "local":
        return DaskTaskRunner(
            cluster_class=cluster.cluster,
            cluster_kwargs=cluster.keywords,
            adapt_kwargs={"minimum_jobs": 1, "maximum_jobs": min(cluster.workers, most_workers)},
        )
    keywords: dict[str, Any] = {
        "n_workers": min(cluster.workers, most_workers),
        "threads_per_worker": 1,
        # A dashboard on its usual port would collide with that of another run on the same machine.
        "dashboard_address": "127.0.0.1:0",
        **cluster.keywords,
    }
    return DaskTaskRunner(cluster_class="distributed.LocalCluster", cluster_kwargs=keywords)


def _finished(job: SlideJob) -> SlideOutcome | None:
    """Look for finished work without reading the slide, so that no cluster is started for nothing."""
    key = job.known_key()
    return None if key is None else find_outcome(job, key)


def _outcome(job: SlideJob, future: PrefectFuture[SlideOutcome]) -> SlideOutcome:
    try:
        return future.result()
    except Exception as error:  # the other slides go on, whatever it was; the report names it
        return failed_outcome(
            job,
            PermanentFault(
                f"its task ended with {type(error).__name__}: {error}",
                remedy="see the log of the task in the Prefect UI, then run again: finished slides are kept",
            ),
        )


def _line(outcome: SlideOutcome) -> str:
    if outcome.state != "done":
        return f"{outcome.slide} {outcome.state}: {outcome.reason}"
    return (
        f"{outcome.slide}: {outcome.tumour_patches} tumour, {outcome.normal_patches} normal, "
        f"{outcome.grid_patches} grid patches in {outcome.seconds:.1f} s"
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
