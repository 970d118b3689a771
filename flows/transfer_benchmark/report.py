"""The report of a transfer benchmark: the paper's Table 5 and Figure 8 for one's own sites, and what goes with them."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from collections.abc import Iterable, Sequence
from pathlib import Path

from flows.transfer_benchmark import grids
from flows.transfer_benchmark.pictures import draw_pictures
from flows.transfer_benchmark.trend import round_rates, trend_grid
from tasks import atomic
from tasks.report.benchmark_data import BenchmarkData
from tasks.report.benchmark_page import write_benchmark_page
from tasks.report.benchmark_rows import csv_text, measured_when
from transfer.benchmark import Trial

REPORT = "transfer-benchmark.html"


def write_transfer_report(
    trials: Sequence[Trial], folder: Path, *, round_trips: dict[str, str], machine: str
) -> BenchmarkData:
    """Write the page, its pictures and a CSV of all trials into `folder`; give what the page shows."""
    measured = [trial for trial in trials if trial.repeat > 0]
    trend = round_rates(folder, measured)
    data = BenchmarkData(
        kind="transfer",
        title=f"Transfers between {', '.join(sorted({trial.cell.source for trial in measured})) or 'no sites'}",
        measured=measured_when(trial.start for trial in measured),
        units="Mb/s are 10⁶ bits a second, MB are 10⁶ bytes.",
        facts=_facts(measured, round_trips, machine),
        grids=(
            grids.table_five(measured),
            grids.sizes_grid(measured),
            grids.break_even_grid(measured),
            grids.small_files_grid(measured),
            grids.shards_grid(measured),
            grids.streams_grid(measured),
            grids.costs_grid(measured),
            trend_grid(trend),
            grids.failures_grid(measured),
        ),
        pictures=tuple(draw_pictures(measured, trend, folder)),
    )
    atomic.write_text(folder / "trials.csv", _csv(trials))
    write_benchmark_page(data, folder / REPORT)
    return data


def _facts(trials: Sequence[Trial], round_trips: dict[str, str], machine: str) -> tuple[tuple[str, str], ...]:
    versions = ", ".join(
        f"{name} {importlib.metadata.version(name)}" for name in ("camnet", "paramiko", "cryptography")
    )
    links = ", ".join(f"{name}: {told}" for name, told in round_trips.items())
    loads = [trial.load for trial in trials if trial.load is not None]
    spread = f"{min(loads):.1f} to {max(loads):.1f} (others' work and trials of that minute)" if loads else "unknown"
    return (
        ("Measured from", f"{machine}, {os.cpu_count()} cores, {platform.system()} {platform.release()}"),
        ("Load of that machine before a trial", spread),
        ("Round trip to the sites (TCP connect)", links or "unknown"),
        ("Versions", f"{versions}, Python {platform.python_version()}"),
        ("Trials", f"{len(trials)}, of these {sum(trial.error is not None for trial in trials)} failed"),
        ("Between two sites that are both elsewhere", "bytes pass through the machine that measures"),
    )


def _csv(trials: Iterable[Trial]) -> str:
    names = [*Trial.model_fields]
    names.remove("cell")
    rows = [{**trial.cell.model_dump(), **trial.model_dump(include=set(names))} for trial in trials]
    rows = [{**row, "megabits_per_s": one.megabits_per_s} for row, one in zip(rows, trials, strict=True)]
    return csv_text(rows)
