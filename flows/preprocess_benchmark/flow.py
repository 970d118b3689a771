"""The preprocessing benchmark as a flow: workers × slides × sampling on the cluster of a site, and what follows."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from prefect import flow

from deployments.sites import Site, load_sites, site_named
from flows.benchmark.conditions import keep_conditions
from flows.benchmark.own_folder import own_folder
from flows.benchmark.publish import publish_report
from flows.benchmark.result import BenchmarkResult
from flows.benchmark.trials import TRIALS, last_trials, measure_each, missing_trials
from flows.preprocess_benchmark.cell import Cell, Trial, trial_line
from flows.preprocess_benchmark.plan import PreprocessBenchmark, measurement_order, planned_cells
from flows.preprocess_benchmark.report import REPORT, write_preprocess_report
from flows.preprocess_benchmark.trial import run_trial, with_workers
from tasks.artifacts import read_lines
from tasks.cohort_config import CohortConfig
from tasks.errors import InputError
from tasks.slides.cohort import SlideRecord, find_slides
from tasks.slides.synthetic import make_cohort
from tasks.slides.synthetic.config import SynthConfig

log = logging.getLogger(__name__)
_FOLDER = "benchmark-preprocess"


@flow(name="benchmark-preprocess", persist_result=False)
def benchmark_preprocess(plan: PreprocessBenchmark) -> BenchmarkResult:
    """Measure what is missing of the matrix, then fit the model and write the report.

    What an interrupted benchmark has finished is found in its output folder and not measured again; with more
    repeats or more workers, only these are measured. Measurements that failed are tried again.

    Raises
    ------
    InputError
        The site or the slides are not as they have to be, or the folder holds measurements of other conditions.
    """
    site = site_named(load_sites(plan.sites_folder, workspace=plan.workspace.resolve()), plan.conditions.site)
    for workers in plan.workers:
        with_workers(site, workers)
    keep_conditions(plan.output, plan.conditions, "site, slides, patches")
    path, order = plan.output / TRIALS, measurement_order(planned_cells(plan), plan)
    missing = missing_trials(order, read_lines(path, Trial))
    if missing:
        _measure(plan, site, missing, path)
    trials = last_trials(order, read_lines(path, Trial))
    data = write_preprocess_report(trials, plan, site)
    publish_report(data, plan.output / REPORT, key="preprocess-benchmark-report")
    failed = sum(trial.error is not None for trial in trials)
    return BenchmarkResult(report=plan.output / REPORT, trials=len(trials), failed=failed)


def _measure(plan: PreprocessBenchmark, site: Site, missing: Sequence[tuple[Cell, int]], path: Path) -> None:
    settings, mpp = plan.conditions.settings, plan.conditions.mpp
    # The nodes of the site see what lies below its root.
    with own_folder(site.root / _FOLDER, plan.output) as folder:
        slides = _slides(plan, site)

        def measure(cell: Cell, repeat: int) -> Trial:
            return run_trial(cell, repeat, site=site, folder=folder, slides=slides, settings=settings, mpp=mpp)

        measure_each(missing, measure, path, trial_line)


def _slides(plan: PreprocessBenchmark, site: Site) -> list[SlideRecord]:
    """List the slides, and make them first if they are synthetic."""
    conditions, most = plan.conditions, max(plan.slides)
    folder = conditions.slides or _synthetic(site.root / _FOLDER, most, conditions.synth_px)
    slides = find_slides(CohortConfig(slides=folder, mpp=conditions.mpp))
    if len(slides) < most:
        raise InputError(
            f"has {len(slides)} slides, and --slides asks for {most}", subject=folder, remedy="ask for fewer"
        )
    return slides


def _synthetic(folder: Path, slides: int, side_px: int) -> Path:
    """Make a cohort in which every slide has tumour and is a patient of its own; one that is finished is kept."""
    cohort = folder / f"slides-{slides}-{side_px}"
    if not (cohort / "truth.json").is_file():
        log.info("making %d slides of %d px a side in %s", slides, side_px, cohort)
        config = SynthConfig(
            slides=slides,
            centres=5,
            nodes_per_patient=1,
            width_px=side_px,
            height_px=side_px,
            negative_fraction=0,
        )
        make_cohort(cohort, config)
    return cohort
