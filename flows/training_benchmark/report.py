"""The report of a training benchmark: the paper's Figures 9 and 10 for one's own machine."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import json
import os
import platform
import shutil
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from flows.training_benchmark import grids
from flows.training_benchmark.figures import FIGURE_EPOCHS, CellFigures, Growth, cell_figures, growth
from flows.training_benchmark.plan import TrainingBenchmark, figure_nine_cells, figure_ten_cells
from flows.training_benchmark.trial import Trial
from tasks import atomic
from tasks.report.benchmark_data import BenchmarkData, Grid
from tasks.report.benchmark_page import write_benchmark_page
from tasks.report.benchmark_rows import csv_text, measured_when
from tasks.report.training_figure import TimeBar, draw_growth, draw_training_times

REPORT, TABLE, NUMBERS = "training-benchmark.html", "epochs.csv", "training-benchmark.json"
FIGURE_NINE, FIGURE_TEN = Path("figure-9.png"), Path("figure-10.png")
_PACKAGES = ("camnet", "tensorflow-cpu", "tensorflow", "keras", "horovod", "h5py", "numpy")


def write_training_report(trials: Sequence[Trial], plan: TrainingBenchmark) -> BenchmarkData:
    """Write the page, its pictures, a CSV of all epochs and a JSON of all numbers; give what the page shows."""
    folder, growing = plan.output, figure_ten_cells(plan)
    by_cell = cell_figures(trials)
    found = [by_cell[cell] for cell in figure_nine_cells(plan) if cell in by_cell]
    line = growth(trials, growing)
    waiting = [by_cell[cell] for cell in dict.fromkeys([*figure_nine_cells(plan), *growing]) if cell in by_cell]
    made = (
        grids.times_grid(found),
        grids.growth_grid(line, growing[0]),
        grids.all_reduce_grid(found),
        grids.waiting_grid(waiting),
        grids.efficiency_grid(found, plan.outlook),
        grids.assumptions_grid(plan),
        grids.failures_grid(trials),
    )
    data = BenchmarkData(
        kind="training",
        title=f"Layer 2 at {plan.conditions.machine}",
        measured=measured_when(trial.start for trial in trials),
        units="Images are patches; Gb/s are 10^9 bits a second, MB 10^6 bytes.",
        facts=tuple(_facts(trials, plan)),
        grids=made,
        pictures=tuple(_pictures(found, line, plan)),
    )
    atomic.write_text(folder / TABLE, _csv(trials))
    atomic.write_text(folder / NUMBERS, json.dumps(_numbers(found, line, data), indent=1))
    write_benchmark_page(data, folder / REPORT)
    return data


def _pictures(found: Sequence[CellFigures], line: Growth | None, plan: TrainingBenchmark) -> Iterable[tuple[str, Path]]:
    if found:
        bars = [
            TimeBar(
                group=f"{one.cell.architecture}\n({one.parameters / 1e6:.1f} M parameters)",
                name=f"{one.cell.shape} (ranks × threads)",
                start_up_s=one.ten_start_up_s,
                steps_s=FIGURE_EPOCHS * one.epoch_s.median,
                least_s=FIGURE_EPOCHS * one.epoch_s.least,
                most_s=FIGURE_EPOCHS * one.epoch_s.most,
            )
            for one in found
        ]
        title = f"{FIGURE_EPOCHS} epochs of {max(plan.rows):,} patches, calculated from measured epochs"
        draw_training_times(plan.output / FIGURE_NINE, bars, title=title)
        yield (
            "Training time by architecture and ranks (the paper's Figure 9); bars are the least and the most",
            FIGURE_NINE,
        )
    if line is not None:
        cell = figure_ten_cells(plan)[0]
        points = [(rows, one.median, one.least, one.most, left) for rows, one, left in line.points]
        ends = [(rows, line.at(rows)) for rows in (0, line.points[-1][0])]
        title = f"{cell.architecture}, {cell.shape} (ranks × threads)"
        draw_growth(plan.output / FIGURE_TEN, points, ends, title=title)
        yield "Time an epoch as the data grow (the paper's Figure 10), and what the line leaves", FIGURE_TEN


def _numbers(found: Sequence[CellFigures], line: Growth | None, data: BenchmarkData) -> dict[str, Any]:
    return {
        "measured": data.measured,
        "facts": dict(data.facts),
        "cells": [
            dataclasses.asdict(one)
            | {
                "cell": one.cell.model_dump(),
                "ten_epochs_s": one.ten_epochs_s,
                "all_reduce_share": one.all_reduce_share,
            }
            for one in found
        ],
        "growth": None if line is None else dataclasses.asdict(line),
        "tables": {grid.title: _rows(grid) for grid in data.grids},
    }


def _rows(grid: Grid) -> list[list[str]]:
    """Give headings and rows; headings may be equal, so these are no dictionaries."""
    return [list(grid.headings), *(list(row) for row in grid.rows)]


def _facts(trials: Sequence[Trial], plan: TrainingBenchmark) -> Iterable[tuple[str, str]]:
    conditions = plan.conditions
    yield "Machine", f"{conditions.machine}, {os.cpu_count()} cores, {platform.system()} {platform.release()}"
    yield "GPUs", _gpus()
    if trials:
        before, after = [one.load for one in trials], [one.load_after for one in trials if one.error is None]
        yield "Load before the trainings (others' work too)", f"{min(before):.1f} to {max(before):.1f}"
        if after:
            yield "Load after them", f"{min(after):.1f} to {max(after):.1f}"
    yield "Shards", str(conditions.shards or f"noise, {conditions.patch_px} px, raw")
    yield "Batch", f"{conditions.batch_size} patches a rank and step"
    yield "Epochs of a training", f"{conditions.epochs}, the first of them start-up"
    xla = ", XLA" if conditions.xla else ""
    yield "Precision", f"{conditions.precision}{xla}; compression of gradients: {conditions.compression}"
    yield "Ranks talk through", conditions.controller
    yield "Order", f"at random (seed {plan.seed})"
    yield "Versions", ", ".join(f"{name} {version}" for name in _PACKAGES if (version := _version(name)))
    yield "Python", platform.python_version()


def _gpus() -> str:
    """Name the GPUs that there are, whether or not a training used them."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return "none"
    done = subprocess.run([program, "-L"], capture_output=True, text=True, check=False, timeout=60)
    names = [line.partition(" (UUID")[0] for line in done.stdout.splitlines() if line.startswith("GPU")]
    return "; ".join(names) or "none"


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _csv(trials: Iterable[Trial]) -> str:
    """One line an epoch; a training that failed has one with its error."""
    rows = []
    for trial in trials:
        known = trial.cell.model_dump() | trial.model_dump(exclude={"cell", "epochs", "all_reduce_s", "error"})
        for number, epoch in enumerate(trial.epochs, start=1):
            first = (number - 2) * epoch.steps
            averages = trial.all_reduce_s[first : first + epoch.steps] if number > 1 else ()
            rows.append(
                {**known, "epoch": number, "counted": int(number > 1), **epoch.model_dump(),
                 "all_reduce_s": sum(averages) if averages else "", "error": ""}
            )  # fmt: skip
        if trial.error is not None:
            rows.append({**known, "error": trial.error})
    return csv_text(rows)
