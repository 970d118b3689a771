"""The training benchmark as a flow: the paper's Figures 9 and 10 measured on this machine."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from prefect import flow

from flows.benchmark.conditions import keep_conditions
from flows.benchmark.own_folder import own_folder
from flows.benchmark.publish import publish_report
from flows.benchmark.result import BenchmarkResult
from flows.benchmark.trials import TRIALS, last_trials, measure_each, missing_trials
from flows.training_benchmark.plan import Cell, TrainingBenchmark, measurement_order, refuse_impossible
from flows.training_benchmark.report import REPORT, write_training_report
from flows.training_benchmark.trial import Trial, run_trial, trial_line
from tasks.artifacts import read_lines
from tasks.digests import file_digest
from tasks.errors import InputError
from tasks.patches.shards.find import find_shards
from tasks.patches.store import open_shard
from tasks.training.job import ShardOfJob
from tasks.training.noise_shards import write_noise_shards

_FOLDER = "benchmark-training"


@flow(name="benchmark-training", persist_result=False)
def benchmark_training(plan: TrainingBenchmark) -> BenchmarkResult:
    """Measure what is missing of the matrix, then write the report.

    What an interrupted benchmark has finished is found in its output folder and not measured again; with more
    repeats or more ranks, only these are measured. Measurements that failed are tried again.

    Raises
    ------
    InputError
        What was asked for cannot be trained, or the folder holds measurements of other conditions.
    """
    refuse_impossible(plan)
    keep_conditions(plan.output, plan.conditions, "machine, patches, batches, epochs, precision")
    path, order = plan.output / TRIALS, measurement_order(plan)
    missing = missing_trials(order, read_lines(path, Trial))
    if missing:
        _measure(plan, missing, path)
    trials = last_trials(order, read_lines(path, Trial))
    data = write_training_report(trials, plan)
    publish_report(data, plan.output / REPORT, key="training-benchmark-report")
    failed = sum(trial.error is not None for trial in trials)
    return BenchmarkResult(report=plan.output / REPORT, trials=len(trials), failed=failed)


def available_shards(plan: TrainingBenchmark, folder: Path) -> list[tuple[ShardOfJob, int]]:
    """List the shards of the training split with the numbers of their labelled patches; make them if none are given."""
    given = plan.conditions.shards
    if given is None:
        paths = write_noise_shards(folder / "shards", plan.rows, plan.conditions.patch_px)
    else:
        paths = find_shards([given])
    found = []
    for path in paths:
        with open_shard(path) as shard:
            if shard.attributes.split == "train":
                known = int(np.count_nonzero(shard.label >= 0))
                found.append((ShardOfJob(path=path, digest=file_digest(path)), known))
    return found


def first_shards(shards: Sequence[tuple[ShardOfJob, int]], rows: int) -> tuple[list[ShardOfJob], int]:
    """Take the first shards that together have at least so many patches; give them and how many that are.

    Raises
    ------
    InputError
        There are fewer.
    """
    taken: list[ShardOfJob] = []
    found = 0
    for shard, own in shards:
        if found >= rows:
            break
        taken.append(shard)
        found += own
    if found < rows:
        raise InputError(
            f"the shards have {found} patches with a label in the training split, and --rows asks for {rows}",
            remedy="ask for fewer, or give a folder with more shards",
        )
    return taken, found


def _measure(plan: TrainingBenchmark, missing: Sequence[tuple[Cell, int]], path: Path) -> None:
    with own_folder(plan.workspace / _FOLDER, plan.output) as folder:
        shards = available_shards(plan, folder)
        chosen = {cell.rows: first_shards(shards, cell.rows) for cell, _ in missing}

        def measure(cell: Cell, repeat: int) -> Trial:
            own, rows = chosen[cell.rows]
            conditions, there = plan.conditions, folder / "trial"
            return run_trial(cell, repeat, shards=own, rows=rows, conditions=conditions, folder=there)

        measure_each(missing, measure, path, trial_line)
