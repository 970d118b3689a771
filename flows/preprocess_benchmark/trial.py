"""One measurement of the preprocessing benchmark: Layer 1 of the pipeline on some slides with some workers."""

from __future__ import annotations

import csv
import io
import os
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from deployments.sites import Site
from flows.context import RunContext
from flows.preprocess import PreprocessResult, preprocess
from flows.preprocess_benchmark.cell import Cell, Trial
from tasks import atomic
from tasks.cohort_config import CohortConfig
from tasks.config import PreprocessConfig, RunConfig, Split, Stages
from tasks.errors import CamNetError, InputError
from tasks.patches.effort import Effort
from tasks.patches.slide_masks import MOST_MASK_PX
from tasks.slides.cohort import SlideRecord
from tasks.slides.reader import open_slide

_ALL_SPLITS: tuple[Split, ...] = ("train", "validation", "test")
_RUN = "benchmark"


def run_trial(
    cell: Cell,
    repeat: int,
    *,
    site: Site,
    folder: Path,
    slides: Sequence[SlideRecord],
    settings: PreprocessConfig,
    mpp: float | None,
) -> Trial:
    """Preprocess the first slides in an empty root, as `camnet preprocess` does, and remove what was made.

    Parameters
    ----------
    folder
        Below the root of the site; what is in it is lost.
    mpp
        µm per pixel for slides that do not state it.

    Raises
    ------
    InputError
        The site or the slides are not as they have to be: other trials would not be better off.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    chosen = slides[: cell.slides]
    table = folder / "slides.csv"
    atomic.write_text(table, _table(chosen))
    there = with_workers(site, cell.workers).model_copy(update={"root": folder})
    config = RunConfig(
        name=_RUN,
        cohort=CohortConfig(slides=table, mpp=mpp, validation_fraction=0.0, test_fraction=0.0),
        stages=Stages(preprocess=site.name, train=site.name),
        preprocess=settings.model_copy(update=_of_sampling(cell, settings)),
    )
    context = RunContext(config=config, sites={site.name: there}, workspace=folder)
    started: dict[str, Any] = {
        "cell": cell,
        "repeat": repeat,
        "start": time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime()),
        "load": os.getloadavg()[0],
    }
    try:
        return Trial(**started, **_measured(preprocess(context), chosen, mpp, settings.tissue.mask_mpp))
    except InputError:
        raise
    except CamNetError as fault:
        return Trial(**started, error=str(fault))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def with_workers(site: Site, workers: int) -> Site:
    """Give the site with a cluster of so many workers, no fewer and no more.

    Raises
    ------
    InputError
        Its file allows fewer, or its jobs hold several and that does not come out even.
    """
    jobs = site.dask.slurm if site.dask.cluster == "slurm" else None
    if jobs is None:
        _refuse_above(site.dask.workers, workers, site, "workers in [dask]")
        return site.model_copy(update={"dask": site.dask.model_copy(update={"workers": workers})})
    _refuse_above(jobs.maximum_jobs * jobs.processes, workers, site, "maximum_jobs in [dask.slurm]")
    if workers % jobs.processes:
        raise InputError(
            f"{workers} workers do not come out even: each of its jobs holds {jobs.processes}",
            subject=f"site {site.name}",
            remedy=f"measure with multiples of {jobs.processes}, or change processes in [dask.slurm] of its file",
        )
    count = workers // jobs.processes
    slurm = jobs.model_copy(update={"minimum_jobs": count, "maximum_jobs": count})
    return site.model_copy(update={"dask": site.dask.model_copy(update={"slurm": slurm})})


def _refuse_above(most: int, workers: int, site: Site, key: str) -> None:
    if workers > most:
        raise InputError(
            f"{workers} workers are more than the {most} that it allows",
            subject=f"site {site.name}",
            remedy=f"measure with fewer, or raise {key} of its file",
        )


def _of_sampling(cell: Cell, settings: PreprocessConfig) -> dict[str, object]:
    if cell.sampling == "random":
        return {"encoding": cell.encoding, "grid_splits": ()}
    return {"encoding": cell.encoding, "grid_splits": _ALL_SPLITS, "tumour_patches": 0, "normal_patches": 0}


def _measured(
    made: PreprocessResult, slides: Sequence[SlideRecord], mpp: float | None, mask_mpp: float
) -> dict[str, Any]:
    failed = [outcome for outcome in made.outcomes if outcome.state == "failed"]
    if failed:
        return {"error": f"{len(failed)} slides failed; {failed[0].slide}: {failed[0].reason}"}
    shards = [file for outcome in made.outcomes for file in outcome.files if file.kind == "patches"]
    return {
        "course": made.course,
        "effort": sum((outcome.effort for outcome in made.outcomes), Effort()),
        "slide_bytes": sum(slide.path.stat().st_size for slide in slides),
        "mask_px": sum(_mask_px(slide, mpp, mask_mpp) for slide in slides),
        "patches_by_slide": tuple(
            outcome.tumour_patches + outcome.normal_patches + outcome.unknown_patches + outcome.grid_patches
            for outcome in made.outcomes
        ),
        "patch_bytes": sum(file.artifact.bytes for file in shards if file.rows),
        "bands": sum(outcome.parts for outcome in made.outcomes) / len(made.outcomes),
        "files": sum(len(outcome.files) for outcome in made.outcomes),
    }


def _mask_px(slide: SlideRecord, mpp: float | None, mask_mpp: float) -> int:
    with open_slide(slide.path, slide.mpp or mpp) as reader:
        width_px, height_px = reader.dimensions_px
        return min(round(width_px * height_px * (reader.mpp / mask_mpp) ** 2), MOST_MASK_PX)


def _table(slides: Sequence[SlideRecord]) -> str:
    """Write a table of slides that says of them what is known."""
    output = io.StringIO()
    writer = csv.writer(output, lineterminator="\n")
    writer.writerow(("slide", "path", "patient", "label", "annotation", "mpp"))
    for slide in slides:
        label = "" if slide.truth == "unknown" else slide.truth
        known = slide.patient, label, slide.annotation or "", slide.mpp or ""
        writer.writerow((slide.name, slide.path.resolve(), *known))
    return output.getvalue()
