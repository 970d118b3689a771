"""The transfer benchmark as a flow: a matrix of trials, a report for a consortium, and the trend over its runs."""

from __future__ import annotations

import socket
import time
from collections.abc import Sequence
from pathlib import Path

from prefect import flow
from pydantic import Field

from deployments.sites import Site, load_sites, site_named
from flows.benchmark.order import in_random_order
from flows.benchmark.publish import publish_report
from flows.benchmark.result import BenchmarkResult
from flows.benchmark.trials import TRIALS, measure_each, missing_trials
from flows.endpoints import endpoint
from flows.transfer_benchmark.report import REPORT, write_transfer_report
from flows.transfer_benchmark.shards import RunShards, run_shards
from flows.transfer_benchmark.trend import ROUNDS
from tasks import atomic
from tasks.artifacts import Record
from tasks.errors import CamNetError, InputError
from transfer.benchmark import Cell, Trial, parse_size, read_trials, routes, trial_line
from transfer.ledger import Ledger
from transfer.model import Endpoint, TransferOptions
from transfer.mover import open_mover
from transfer.trial import run_shards_trial, run_trial, take_away

NOTES = "under-way"
_SMALL_BYTES, _SMALL_FILES = 100_000, 1000


class TransferBenchmark(Record):
    """What is measured.

    Attributes
    ----------
    sites
        At least two names; all ordered pairs of them are measured from this machine.
    sizes
        Sizes of single files, for example ``100MB``.
    small_files
        How many files of 100 kB stand for many small files; 0: that is not measured.
    shards
        Manifest of a run at one of the sites, whose shards are moved to the others, too; None: random bytes only.
    streams
        Numbers of connections; the first is used throughout, the others for the largest size.
    """

    sites_folder: Path | None = None
    workspace: Path
    sites: tuple[str, ...] = Field(min_length=2)
    protocols: tuple[str, ...] = ("auto",)
    sizes: tuple[str, ...] = ("1MB", "100MB")
    small_files: int = Field(_SMALL_FILES, ge=0, le=100_000)
    shards: Path | None = None
    streams: tuple[int, ...] = Field((4,), min_length=1)
    repeats: int = Field(3, ge=1, le=1000)
    seed: int = 0
    output: Path


@flow(name="benchmark-transfer", persist_result=False)
def benchmark_transfer(plan: TransferBenchmark) -> BenchmarkResult:
    """Measure what is missing of the matrix, then write the report.

    Trials that an interrupted benchmark has finished are found in its output folder and not measured again, but those
    that failed are; a finished benchmark begins a new round, and the report shows the trend over the rounds. What a
    killed one left at the sites is taken away first.

    Raises
    ------
    InputError
        A site is unknown, two sites offer no such protocol, a size is none, or the shards cannot be used.
    PolicyRefusal
        The shards may not leave their site.
    """
    sites: dict[str, Site] = load_sites(plan.sites_folder, workspace=plan.workspace.resolve())
    ends = {name: endpoint(site_named(sites, name)) for name in plan.sites}
    shards = run_shards(plan.shards, sites, plan.sites) if plan.shards else None
    options = TransferOptions()
    ledger = Ledger(plan.output / "ledger.jsonl")
    take_away(plan.output / NOTES, ends, options)
    cells = planned_cells(plan, ends, options, ledger, shards)
    path, notes = plan.output / TRIALS, plan.output / NOTES

    def measure(cell: Cell, repeat: int) -> Trial:
        return _trial(cell, repeat, ends, shards, options=options, ledger=ledger, notes=notes)

    missing = missing_trials(in_random_order(cells, plan.repeats, plan.seed), read_trials(path))
    measure_each(missing, measure, path, trial_line)
    trials = read_trials(path)
    data = write_transfer_report(trials, plan.output, round_trips=_round_trips(ends), machine=socket.gethostname())
    publish_report(data, plan.output / REPORT, key="transfer-benchmark-report")
    archive(path)
    arrived = {(trial.cell, trial.repeat) for trial in trials if trial.error is None}
    failed = {(trial.cell, trial.repeat) for trial in trials} - arrived
    return BenchmarkResult(report=plan.output / REPORT, trials=len(trials), failed=len(failed))


def planned_cells(
    plan: TransferBenchmark,
    ends: dict[str, Endpoint],
    options: TransferOptions,
    ledger: Ledger,
    shards: RunShards | None = None,
) -> list[Cell]:
    """List the cells; protocols that two sites do not offer are an error unless another pair offers them.

    Raises
    ------
    InputError
        No two sites offer a protocol.
    PolicyRefusal
        The shards may not leave their site.
    """
    sizes = sorted({parse_size(text) for text in plan.sizes})
    cells: list[Cell] = []
    offered: set[str] = set()
    refusal: InputError | None = None
    for source, destination in routes(plan.sites):
        for protocol in plan.protocols:
            try:
                open_mover(protocol, ends[source], ends[destination], options, ledger)
            except InputError as error:
                refusal = error
                continue
            offered.add(protocol)
            cells += _cells_of(plan, source, destination, protocol, sizes)
            if shards is not None and source == shards.site:
                shards.batch(ends[source], ends[destination])  # refused before anything is measured
                cells.append(shards.cell(destination, protocol, plan.streams[0]))
    if refusal is not None and set(plan.protocols) - offered:
        raise refusal
    return cells


def archive(path: Path) -> Path:
    """Put the trials of a finished round away, so that the next call begins a new one."""
    rounds = path.parent / ROUNDS
    rounds.mkdir(exist_ok=True)
    first = read_trials(path)[0].start if path.is_file() else ""
    target = rounds / f"{first[:19].replace(':', '-')}.jsonl"
    atomic.write_text(target, path.read_text())
    path.unlink()
    return target


def _cells_of(
    plan: TransferBenchmark, source: str, destination: str, protocol: str, sizes: Sequence[int]
) -> list[Cell]:
    ends = {"source": source, "destination": destination, "protocol": protocol}
    cells = [Cell(kind="size", **ends, file_bytes=size, streams=plan.streams[0]) for size in sizes]
    cells += [Cell(kind="streams", **ends, file_bytes=sizes[-1], streams=count) for count in plan.streams[1:]]
    if plan.small_files:
        small = {"file_bytes": _SMALL_BYTES, "streams": plan.streams[0]}
        cells.append(Cell.model_validate({"kind": "files", **ends, **small, "files": plan.small_files}))
    return cells


def _trial(
    cell: Cell,
    repeat: int,
    ends: dict[str, Endpoint],
    shards: RunShards | None,
    *,
    options: TransferOptions,
    ledger: Ledger,
    notes: Path,
) -> Trial:
    source, destination = ends[cell.source], ends[cell.destination]
    try:
        if cell.kind == "shards" and shards is not None:
            batch = shards.batch(source, destination)
            return run_shards_trial(cell, repeat, batch, options=options, ledger=ledger, notes=notes)
        return run_trial(cell, repeat, source, destination, options=options, ledger=ledger, notes=notes)
    except CamNetError as fault:
        now = time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime())
        return Trial(cell=cell, repeat=repeat, start=now, seconds=0.0, error=str(fault))


def _round_trips(ends: dict[str, Endpoint]) -> dict[str, str]:
    """Tell the time of a TCP connection from here to each site's SSH port, the least of three."""
    told = {}
    for name, end in ends.items():
        time_ms = _connect_ms(end.ssh.host, end.ssh.port) if end.ssh else None
        absent = "did not answer" if end.ssh else "a folder of this machine"
        told[name] = absent if time_ms is None else f"{time_ms:.1f} ms"
    return told


def _connect_ms(host: str, port: int) -> float | None:
    times = []
    for _ in range(3):
        started_s = time.monotonic()
        try:
            socket.create_connection((host, port), timeout=10).close()
        except OSError:
            return None
        times.append(1000 * (time.monotonic() - started_s))
    return min(times)
