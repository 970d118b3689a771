"""``camnet benchmark transfer``: how fast files go between sites, as a report."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from flows.commands.options import DEFAULT_WORKSPACE, WorkspaceOption, print_json
from tasks.errors import InputError, PartialResult


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
        sites=_named(sites, 2, "--sites"),
        protocols=_named(protocols, 1, "--protocols"),
        sizes=_named(sizes, 1, "--sizes"),
        small_files=small_files,
        shards=shards.resolve() if shards else None,
        streams=_counts(streams),
        repeats=repeats,
        seed=seed,
        output=output.resolve(),
    )
    with prefect_api(workspace.resolve() / "prefect"):
        result = benchmark_transfer(plan)
    print_json(result)
    if result.failed:
        raise PartialResult(
            f"{result.failed} of {result.trials} trials failed", subject=result.report, remedy="see the report's end"
        )


def _named(text: str, least: int, option: str) -> tuple[str, ...]:
    names = tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    if len(names) < least:
        raise InputError(f"{option} {text!r} names too few", remedy=f"give at least {least}, with commas between them")
    return names


def _counts(text: str) -> tuple[int, ...]:
    try:
        counts = tuple(int(part) for part in text.split(","))
    except ValueError as error:
        raise InputError(f"--streams {text!r} is no list of numbers", remedy="write --streams 4,1,2,8") from error
    if not all(1 <= count <= 32 for count in counts):
        raise InputError(f"--streams {text!r}: each must be 1 to 32", remedy="write --streams 4,1,2,8")
    return counts
