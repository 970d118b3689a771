"""The preprocessing benchmark as a flow: workers × slides × sampling on the cluster of a site, and what follows."""

from __future__ import annotations

import hashlib
import logging
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from prefect import flow
from prefect.artifacts import (
    create_markdown_artifact,
    create_progress_artifact,
    create_table_artifact,
    update_progress_artifact,
)

from deployments.sites import Site, load_sites, site_named
from flows.preprocess_plan import Conditions, PreprocessBenchmark, measurement_order, planned_cells
from flows.preprocess_report import measured_table, predicted_table, write_preprocess_report
from flows.preprocess_trial import Cell, Trial, run_trial, trial_line, with_workers
from tasks import atomic
from tasks.artifacts import Record, read_lines, read_record
from tasks.cohort_config import CohortConfig
from tasks.errors import InputError
from tasks.slides.cohort import SlideRecord, find_slides
from tasks.slides.synthetic import make_cohort
from tasks.slides.synthetic.config import SynthConfig

log = logging.getLogger(__name__)
TRIALS, CONDITIONS = "trials.jsonl", "conditions.json"
_FOLDER = "benchmark-preprocess"


class PreprocessBenchmarkResult(Record):
    """Where the report is, and how many measurements there are."""

    report: Path
    trials: int
    failed: int


@flow(name="benchmark-preprocess", persist_result=False)
def benchmark_preprocess(plan: PreprocessBenchmark) -> PreprocessBenchmarkResult:
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
    _keep_conditions(plan)
    path = plan.output / TRIALS
    cells = planned_cells(plan)
    done = {(trial.cell, trial.repeat) for trial in read_lines(path, Trial) if trial.error is None}
    missing = [one for one in measurement_order(cells, plan) if one not in done]
    if missing:
        _measure(plan, site, missing, path)
    planned = {(cell, repeat) for cell in cells for repeat in range(plan.repeats + 1)}
    trials = [trial for trial in _last(read_lines(path, Trial)) if (trial.cell, trial.repeat) in planned]
    report = write_preprocess_report(trials, plan, site)
    _publish(trials, report, plan)
    return PreprocessBenchmarkResult(
        report=report, trials=len(trials), failed=sum(trial.error is not None for trial in trials)
    )


def _measure(plan: PreprocessBenchmark, site: Site, missing: Sequence[tuple[Cell, int]], path: Path) -> None:
    conditions = plan.conditions
    with _trial_folder(site, plan.output) as folder:
        slides = _slides(plan, site)
        progress: Any = create_progress_artifact(0.0, key="benchmark-progress", description=f"{len(missing)} trials")
        for number, (cell, repeat) in enumerate(missing, start=1):
            trial = run_trial(
                cell,
                repeat,
                site=site,
                folder=folder,
                slides=slides,
                settings=conditions.settings,
                mpp=conditions.mpp,
            )
            atomic.append_line(path, trial.model_dump_json().encode())
            told = f"{number} of {len(missing)}: {trial_line(trial)}"
            log.info("trial %s", told)
            update_progress_artifact(progress, 100.0 * number / len(missing), description=told)


@contextmanager
def _trial_folder(site: Site, output: Path) -> Iterator[Path]:
    """Give a folder that the nodes of the site see, always the same for an output folder, and remove it at the end."""
    name = hashlib.sha256(str(output).encode()).hexdigest()[:12]
    folder = site.root / _FOLDER / name
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


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


def _keep_conditions(plan: PreprocessBenchmark) -> None:
    path = plan.output / CONDITIONS
    known = read_record(path, Conditions)
    if path.is_file() and known != plan.conditions:
        raise InputError(
            "holds measurements under other conditions (site, slides, patches)",
            subject=plan.output,
            remedy=f"choose another folder; {CONDITIONS} in this one has its conditions",
        )
    plan.output.mkdir(parents=True, exist_ok=True)
    atomic.write_text(path, plan.conditions.model_dump_json(indent=1))


def _last(trials: Sequence[Trial]) -> list[Trial]:
    """Keep the last measurement of each: one that failed may have been tried again."""
    return list({(trial.cell, trial.repeat): trial for trial in trials}.values())


def _publish(trials: Sequence[Trial], report: Path, plan: PreprocessBenchmark) -> None:
    create_table_artifact(
        measured_table(trials), key="preprocess-benchmark", description="Layer 1, measured: medians, seconds"
    )
    create_table_artifact(
        predicted_table(trials, plan.outlook), key="preprocess-prediction", description="43 million patches, predicted"
    )
    create_markdown_artifact(f"Report: `{report}`", key="preprocess-benchmark-report")
