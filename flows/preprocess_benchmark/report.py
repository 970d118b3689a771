"""The report of a preprocessing benchmark: the paper's Table 4 and Figure 7 for one's own site."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import json
import os
import platform
from collections.abc import Iterable, Sequence
from typing import Any

from deployments.sites import Site
from flows.preprocess_benchmark import grids, model_grids
from flows.preprocess_benchmark.cell import Trial
from flows.preprocess_benchmark.forecast import Forecast, Model, cohort_forecasts, measured_models
from flows.preprocess_benchmark.picture import draw_figure_seven
from flows.preprocess_benchmark.plan import Outlook, PreprocessBenchmark
from flows.preprocess_benchmark.scaling_fit import residual_s
from tasks import atomic
from tasks.report.benchmark_data import BenchmarkData
from tasks.report.benchmark_page import write_benchmark_page
from tasks.report.benchmark_rows import csv_text, measured_when
from tasks.report.formats import size

REPORT, TABLE, NUMBERS = "preprocess-benchmark.html", "trials.csv", "preprocess-benchmark.json"
_PACKAGES = ("camnet", "prefect", "dask", "distributed", "dask-jobqueue", "openslide-bin", "h5py", "simplejpeg")


def write_preprocess_report(trials: Sequence[Trial], plan: PreprocessBenchmark, site: Site) -> BenchmarkData:
    """Write the page, its picture, a CSV of all trials and a JSON of all numbers; give what the page shows."""
    folder, outlook = plan.output, plan.outlook
    models = measured_models(trials)
    made = (
        model_grids.paper_grid(models, outlook),
        grids.measured_grid(trials),
        model_grids.prediction_grid(models, outlook),
        grids.course_grid(trials),
        model_grids.costs_grid(models),
        model_grids.residual_grid(models, trials),
        model_grids.assumptions_grid(models, outlook),
        grids.failures_grid(trials),
    )
    data = BenchmarkData(
        kind="preprocessing",
        title=f"Layer 1 at {site.name}",
        measured=measured_when(trial.start for trial in trials if trial.repeat > 0),
        units="MB are 10^6 bytes. What is measured and what is predicted stand in tables of their own.",
        facts=(*_facts(trials, plan, site),),
        grids=made,
        pictures=(draw_figure_seven(models, outlook, folder),) if models else (),
    )
    atomic.write_text(folder / TABLE, _csv(trials))
    atomic.write_text(folder / NUMBERS, json.dumps(_numbers(models, outlook, data), indent=1))
    write_benchmark_page(data, folder / REPORT)
    return data


def _numbers(models: dict[str, Model], outlook: Outlook, data: BenchmarkData) -> dict[str, Any]:
    return {
        "measured": data.measured,
        "facts": dict(data.facts),
        "outlook": outlook.model_dump(),
        "models": {kind: _model(model) for kind, model in models.items()},
        "predictions": [
            _forecast(asked)
            for model in models.values()
            if model.kind.startswith("dense")
            for asked in cohort_forecasts(model, outlook)
        ],
        "tables": {grid.title: grid.records for grid in data.grids},
    }


def _model(model: Model) -> dict[str, Any]:
    residuals = [
        {"slides": one.work.slides, "workers": one.machine.workers, "measured_s": one.wall_s,
         "residual_s": residual_s(model.costs, one)}
        for one in model.observations
    ]  # fmt: skip
    return {"costs": dataclasses.asdict(model.costs), "patch_mb": model.patch_mb, "residuals": residuals}


def _forecast(asked: Forecast) -> dict[str, Any]:
    made = asked.prediction
    return {
        "kind": asked.kind,
        "work": dataclasses.asdict(asked.work),
        "machine": dataclasses.asdict(asked.machine),
        "seconds": made.seconds,
        "bound_by": made.bound_by,
        **dataclasses.asdict(made),
    }


def _facts(trials: Sequence[Trial], plan: PreprocessBenchmark, site: Site) -> Iterable[tuple[str, str]]:
    counted = [trial for trial in trials if trial.repeat > 0]
    hosts = sorted({worker.host for trial in counted if trial.effort for worker in trial.effort.workers.values()})
    nodes = {name.rpartition("/")[0] for trial in counted if trial.effort for name in trial.effort.workers}
    settings, conditions = plan.conditions.settings, plan.conditions
    of_each = [trial.slide_bytes // trial.cell.slides for trial in counted if trial.slide_bytes]
    made = str(conditions.slides or f"synthetic, {conditions.synth_px:,} px a side")
    yield "Cluster", site.dask.summary
    yield "Coordinator", f"{platform.node()}, {os.cpu_count()} cores, {platform.system()} {platform.release()}"
    yield "Workers ran on", f"nodes: {len(nodes)}; hosts: {len(hosts)} ({', '.join(hosts[:8])})"
    if counted:
        loads = [trial.load for trial in counted]
        yield "Load of the coordinator before the trials", f"{min(loads):.1f} to {max(loads):.1f}"
    yield "Slides", f"{made}, {size(round(sum(of_each) / len(of_each))) if of_each else 'none'} each"
    yield (
        "Patches",
        f"{settings.patch_px} px, step of the dense grid {settings.grid_stride_px} px",
    )
    yield "A slide is cut in parts from", f"{settings.grid_part_positions:,} positions"
    yield "Order", f"at random (seed {plan.seed}), after a warm-up that does not count"
    yield "Versions", ", ".join(f"{name} {importlib.metadata.version(name)}" for name in _PACKAGES)
    yield "Python", platform.python_version()


def _csv(trials: Iterable[Trial]) -> str:
    rows = []
    for trial in trials:
        course = trial.course.model_dump() if trial.course else {}
        effort = trial.effort
        spent = {} if effort is None else {
            **{f"{name}_wall_s": effort.of(name).wall_s for name in grids.PHASES},
            **{f"{name}_cpu_s": effort.of(name).cpu_s for name in grids.PHASES},
            "tasks_cpu_s": effort.whole.cpu_s,
            "workers_cpu_s": sum(worker.cpu_s for worker in effort.workers.values()),
            "read_bytes": effort.read_bytes,
            "written_bytes": effort.written_bytes,
        }  # fmt: skip
        whole = trial.model_dump(exclude={"cell", "course", "effort", "patches_by_slide"})
        course["most_workers"] = course.pop("workers", None)
        rows.append({**trial.cell.model_dump(), **whole, "patches": trial.patches, "seconds": trial.seconds,
                     **course, **spent})  # fmt: skip
    return csv_text(rows)
