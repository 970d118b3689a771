"""The training benchmark as a flow: the paper's Figures 9 and 10 measured on this machine."""

from __future__ import annotations

import hashlib
import logging
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from prefect import flow
from prefect.artifacts import create_markdown_artifact, create_progress_artifact, update_progress_artifact

from flows.training_benchmark.plan import Cell, Conditions, TrainingBenchmark, measurement_order, refuse_impossible
from flows.training_benchmark.report import write_training_report
from flows.training_benchmark.trial import Trial, run_trial, trial_line
from tasks import atomic
from tasks.artifacts import Record, read_lines, read_record
from tasks.digests import file_digest
from tasks.errors import InputError
from tasks.patches.shards.find import find_shards
from tasks.patches.store import open_shard
from tasks.training.job import ShardOfJob
from tasks.training.noise_shards import write_noise_shards

log = logging.getLogger(__name__)
TRIALS, CONDITIONS = "trials.jsonl", "conditions.json"
_FOLDER = "benchmark-training"


class TrainingBenchmarkResult(Record):
    """Where the report is, and how many measurements there are."""

    report: Path
    trials: int
    failed: int


@flow(name="benchmark-training", persist_result=False)
def benchmark_training(plan: TrainingBenchmark) -> TrainingBenchmarkResult:
    """Measure what is missing of the matrix, then write the report.

    What an interrupted benchmark has finished is found in its output folder and not measured again; with more
    repeats or more ranks, only these are measured. Measurements that failed are tried again.

    Raises
    ------
    InputError
        What was asked for cannot be trained, or the folder holds measurements of other conditions.
    """
    refuse_impossible(plan)
    _keep_conditions(plan)
    path, order = plan.output / TRIALS, measurement_order(plan)
    done = {(trial.cell, trial.repeat) for trial in read_lines(path, Trial) if trial.error is None}
    missing = [one for one in order if one not in done]
    if missing:
        _measure(plan, missing, path)
    last = {(trial.cell, trial.repeat): trial for trial in read_lines(path, Trial)}
    trials = [last[one] for one in order]
    report = write_training_report(trials, plan)
    create_markdown_artifact(f"Report: `{report}`", key="training-benchmark-report")
    failed = sum(trial.error is not None for trial in trials)
    return TrainingBenchmarkResult(report=report, trials=len(trials), failed=failed)


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
    with _own_folder(plan) as folder:
        shards = available_shards(plan, folder)
        chosen = {cell.rows: first_shards(shards, cell.rows) for cell, _ in missing}
        progress: Any = create_progress_artifact(0.0, key="benchmark-progress", description=f"{len(missing)} trials")
        for number, (cell, repeat) in enumerate(missing, start=1):
            own, rows = chosen[cell.rows]
            trial = run_trial(cell, repeat, shards=own, rows=rows, conditions=plan.conditions, folder=folder / "trial")
            atomic.append_line(path, trial.model_dump_json().encode())
            told = f"{number} of {len(missing)}: {trial_line(trial)}"
            log.info("trial %s", told)
            update_progress_artifact(progress, 100.0 * number / len(missing), description=told)


@contextmanager
def _own_folder(plan: TrainingBenchmark) -> Iterator[Path]:
    """Give a folder in the workspace, always the same for an output folder, and remove it at the end."""
    name = hashlib.sha256(str(plan.output).encode()).hexdigest()[:12]
    folder = plan.workspace / _FOLDER / name
    shutil.rmtree(folder, ignore_errors=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _keep_conditions(plan: TrainingBenchmark) -> None:
    path = plan.output / CONDITIONS
    known = read_record(path, Conditions)
    if path.is_file() and known != plan.conditions:
        raise InputError(
            "holds measurements under other conditions (machine, patches, batches, epochs, precision)",
            subject=plan.output,
            remedy=f"choose another folder; {CONDITIONS} in this one has its conditions",
        )
    plan.output.mkdir(parents=True, exist_ok=True)
    atomic.write_text(path, plan.conditions.model_dump_json(indent=1))
