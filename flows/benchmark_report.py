"""The report of a transfer benchmark: the paper's Table 5 and Figure 8 for one's own sites, and what goes with them."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import median

from flows.benchmark_pictures import draw_pictures
from tasks import atomic
from tasks.report.benchmark_data import BenchmarkData, Grid
from tasks.report.benchmark_page import write_benchmark_page
from tasks.report.benchmark_rows import csv_text, measured_when
from tasks.report.formats import quantity, size
from transfer.benchmark import Trial
from transfer.figures import LineFit, break_even_bytes, line_fit, median_rate
from transfer.grouping import arrived, file_bytes, grouped, of_kind, rates, route, way

REPORT = "transfer-benchmark.html"


def write_benchmark_report(trials: Sequence[Trial], folder: Path, *, round_trips: dict[str, str], machine: str) -> Path:
    """Write the page, its pictures and a CSV of all trials into `folder`; give the page's path."""
    measured = [trial for trial in trials if trial.repeat > 0]
    pictures = draw_pictures(measured, folder)
    data = BenchmarkData(
        kind="transfer",
        title=f"Transfers between {', '.join(dict.fromkeys(trial.cell.source for trial in measured)) or 'no sites'}",
        measured=measured_when(trial.start for trial in measured),
        units="Mb/s are 10^6 bits a second, MB are 10^6 bytes.",
        facts=_facts(measured, round_trips, machine),
        grids=(
            _table_five(measured),
            _sizes(measured),
            _break_evens(measured),
            _files(measured),
            _shards(measured),
            _streams(measured),
            _costs(measured),
            _failures(measured),
        ),
        pictures=tuple(pictures),
    )
    atomic.write_text(folder / "trials.csv", _csv(trials))
    write_benchmark_page(data, folder / REPORT)
    return folder / REPORT


def table_five(trials: Iterable[Trial]) -> list[dict[str, str]]:
    """Give the rates between sites as rows of a table for the Prefect UI."""
    grid = _table_five([trial for trial in trials if trial.repeat > 0])
    return [dict(zip(grid.headings, row, strict=True)) for row in grid.rows]


def _table_five(trials: Sequence[Trial]) -> Grid:
    largest = {
        pair: max(t.cell.file_bytes for t in found) for pair, found in grouped(of_kind(trials, "size"), route).items()
    }
    chosen = [trial for trial in of_kind(trials, "size") if trial.cell.file_bytes == largest[route(trial)]]
    sites = sorted({site for pair in largest for site in pair})
    rows = []
    by_row = grouped(chosen, lambda one: (one.cell.protocol, one.cell.file_bytes, one.cell.source))
    for (protocol, size_bytes, source), found in sorted(by_row.items()):
        to = grouped(found, lambda one: one.cell.destination)
        cells = [_rate(to[site]) if site in to else "" for site in sites]
        repeats = sorted({str(len(rates(ones))) for ones in to.values()}, key=int)
        rows.append((protocol, size(size_bytes), source, *cells, ", ".join(repeats)))
    return Grid(
        title="Between the sites (the paper's Table 5)",
        lead="Mb/s from the site of the line to that of the column, largest file of each pair, from the call to the "
        "verified file under its final name; median of the repeats with the 95 % interval of a bootstrap over them.",
        headings=("protocol", "file", "from", *(f"to {site}" for site in sites), "repeats"),
        rows=tuple(rows),
    )


def _sizes(trials: Sequence[Trial]) -> Grid:
    rows = []
    for (named, size_bytes), found in sorted(
        grouped(of_kind(trials, "size"), lambda one: (way(one), one.cell.file_bytes)).items()
    ):
        seconds = median([trial.seconds for trial in found if trial.error is None] or [float("nan")])
        rows.append((*named, size(size_bytes), _rate(found), f"{seconds:.2f}"))
    return Grid(
        title="By file size (the paper's Figure 8)",
        lead="Throughput and time of one file.",
        headings=("from", "to", "protocol", "file", "Mb/s", "median s"),
        rows=tuple(rows),
    )


def _break_evens(trials: Sequence[Trial]) -> Grid:
    fits, measured = _fits(trials), grouped(arrived(of_kind(trials, "size")), way)
    rows = []
    for (source, destination, early), fit in fits.items():
        for (other_source, other_destination, late), other in fits.items():
            if (source, destination) != (other_source, other_destination) or early == late:
                continue
            point = break_even_bytes(fit, other)
            if point is not None:
                both = [*measured[source, destination, early], *measured[source, destination, late]]
                beyond = "" if point <= max(file_bytes(one) for one in both) else ", beyond what was measured"
                told = f"{size(round(point))}{beyond}"
                rows.append((source, destination, late, early, told, _told(other), _told(fit)))
    return Grid(
        title="Where one protocol overtakes another",
        lead="From a line through the times by size: start and rate of each protocol.",
        absent="No protocol overtakes another one: of each two, one is faster for all sizes that were measured.",
        headings=("from", "to", "protocol", "overtakes", "from files of", "its start and rate", "the other's"),
        rows=tuple(rows),
    )


def _files(trials: Sequence[Trial]) -> Grid:
    rows = []
    for named, found in grouped(of_kind(trials, "files"), way).items():
        cell = found[0].cell
        alike = [one for one in of_kind(trials, "size") if way(one) == named]
        nearest = min(
            {one.cell.file_bytes for one in alike}, key=lambda bytes_: abs(bytes_ - cell.total_bytes), default=None
        )
        one_file = _rate([one for one in alike if one.cell.file_bytes == nearest]) if nearest is not None else "-"
        many = f"{cell.files:,} × {size(cell.file_bytes)}"
        rows.append((*named, many, _rate(found), size(nearest) if nearest is not None else "-", one_file))
    return Grid(
        title="Many small files against one large file",
        lead="The same call, with many files in one batch.",
        headings=("from", "to", "protocol", "files", "Mb/s", "one file", "Mb/s of it"),
        rows=tuple(rows),
    )


def _shards(trials: Sequence[Trial]) -> Grid:
    rows = []
    for (named, cell), found in grouped(of_kind(trials, "shards"), lambda one: (way(one), one.cell)).items():
        seconds = median([trial.seconds for trial in found if trial.error is None] or [float("nan")])
        rows.append((*named, f"{cell.files:,}", size(cell.total_bytes), _rate(found), f"{seconds:.2f}"))
    return Grid(
        title="A run's own shards",
        lead="The shards of a run in one batch; all other files here hold random bytes.",
        headings=("from", "to", "protocol", "shards", "together", "Mb/s", "median s"),
        rows=tuple(rows),
    )


def _streams(trials: Sequence[Trial]) -> Grid:
    several = {way(trial) for trial in of_kind(trials, "streams")}
    largest = max((trial.cell.file_bytes for trial in of_kind(trials, "streams")), default=0)
    chosen = [
        trial
        for trial in trials
        if way(trial) in several and trial.cell.kind in ("size", "streams") and trial.cell.file_bytes == largest
    ]
    rows = [
        (*named, size(largest), str(count), _rate(found))
        for (named, count), found in sorted(grouped(chosen, lambda one: (way(one), one.cell.streams)).items())
    ]
    return Grid(
        title="Streams against throughput",
        lead="The largest file over different numbers of connections.",
        headings=("from", "to", "protocol", "file", "streams", "Mb/s"),
        rows=tuple(rows),
    )


def _costs(trials: Sequence[Trial]) -> Grid:
    rows = []
    for named, found in grouped(arrived(of_kind(trials, "size")), way).items():
        whole_s = sum(trial.seconds for trial in found)
        shares = [
            sum(getattr(trial, name) for trial in found) / whole_s if whole_s else 0.0
            for name in ("wire_seconds", "verify_seconds", "startup_seconds")
        ]
        told = [f"{100 * share:.1f}" for share in shares]
        again = sum(trial.bytes_resent for trial in found)
        rows.append((*named, *told, str(sum(trial.retries for trial in found)), size(again)))
    return Grid(
        title="What the time goes into",
        lead="Shares of the whole time over all single files, in percent. Verification is what the digest at the "
        "destination took after the last byte; where it runs along the way, hardly anything is left of it.",
        headings=("from", "to", "protocol", "wire %", "verification %", "start-up %", "retries", "sent again"),
        rows=tuple(rows),
    )


def _failures(trials: Sequence[Trial]) -> Grid:
    rows = tuple((*way(one), size(one.cell.file_bytes), one.start, one.error) for one in trials if one.error)
    return Grid(
        title="What failed",
        lead="These trials are in no figure above.",
        absent="No trial failed.",
        headings=("from", "to", "protocol", "file", "start", "error"),
        rows=rows,
    )


def _fits(trials: Sequence[Trial]) -> dict[tuple[str, str, str], LineFit]:
    fits = {}
    for named, found in grouped(arrived(of_kind(trials, "size")), way).items():
        by_size = sorted(grouped(found, file_bytes).items())
        fit = line_fit([x for x, _ in by_size], [median(one.seconds for one in ones) for _, ones in by_size])
        if fit is not None:
            fits[named] = fit
    return fits


def _facts(trials: Sequence[Trial], round_trips: dict[str, str], machine: str) -> tuple[tuple[str, str], ...]:
    versions = ", ".join(
        f"{name} {importlib.metadata.version(name)}" for name in ("camnet", "paramiko", "cryptography")
    )
    links = ", ".join(f"{name}: {told}" for name, told in round_trips.items())
    return (
        ("Measured from", f"{machine}, {os.cpu_count()} cores, {platform.system()} {platform.release()}"),
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


def _rate(trials: Iterable[Trial]) -> str:
    found = median_rate(rates(trials))
    if found is None:
        return "failed"
    if found.low is None or found.high is None:
        return quantity(found.median)
    return f"{quantity(found.median)} ({quantity(found.low)} to {quantity(found.high)})"


def _told(fit: LineFit) -> str:
    return f"{fit.start_s:.2f} s, {quantity(fit.megabits_per_s)} Mb/s"
