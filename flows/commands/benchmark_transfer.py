"""``camnet benchmark transfer``: how fast files go between sites, as a report."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from flows.commands.benchmark_options import end_benchmark, read_counts, read_names
from flows.commands.options import DEFAULT_WORKSPACE, WorkspaceOption

_MOST_STREAMS = 32


def register(app: typer.Typer) -> None:
    """Add this command to `app`."""
    app.command()(transfer)


def transfer(
    sites: Annotated[str, typer.Option("--sites", help="names of two or more sites, with commas between them")],
    protocols: Annotated[str, typer.Option("--protocols", help="names of protocols, or auto")] = "auto",
    sizes: Annotated[str, typer.Option("--sizes", help="of single files, for example 1MB,100MB,2GB")] = "1MB,100MB",
    small_files: Annotated[
        int, typer.Option("--small-files", min=0, max=100_000, help="of 100 kB; 0: not measured")
    ] = 1000,
    shards: Annotated[
        Path | None, typer.Option("--shards", help="manifest of a run at one of the sites: its shards are moved, too")
    ] = None,
    streams: Annotated[
        str, typer.Option("--streams", help="numbers of connections; the first is used throughout")
    ] = "4",
    repeats: Annotated[int, typer.Option("--repeats", min=1, max=1000, help="of each cell, after a warm-up")] = 3,
    seed: Annotated[int, typer.Option("--seed", help="of the order of the measurements")] = 0,
    sites_folder: Annotated[Path | None, typer.Option("--sites-folder", help="folder with site files")] = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="folder of the report")] = Path("transfer-benchmark"),
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
) -> None:
    """Measure transfers between sites in random order, and write a report (HTML, PNG, CSV).

    Interrupted, it goes on with the same command. A finished one begins a new round, and the report shows the
    trend over the rounds.
    """
    from flows.server import prefect_api
    from flows.transfer_benchmark.flow import TransferBenchmark, benchmark_transfer

    plan = TransferBenchmark(
        sites_folder=sites_folder,
        workspace=workspace.resolve(),
        sites=read_names(sites, "--sites", example="site-a,site-b", least=2),
        protocols=read_names(protocols, "--protocols", example="streams,scp"),
        sizes=read_names(sizes, "--sizes", example="1MB,100MB"),
        small_files=small_files,
        shards=shards.resolve() if shards else None,
        streams=read_counts(streams, "--streams", most=_MOST_STREAMS, example="4,1,2,8"),
        repeats=repeats,
        seed=seed,
        output=output.resolve(),
    )
    with prefect_api(workspace.resolve() / "prefect"):
        result = benchmark_transfer(plan)
    end_benchmark(result, "trials")
