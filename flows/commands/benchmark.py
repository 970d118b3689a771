"""``camnet benchmark``: what this machine, this cluster, these links can do."""

from __future__ import annotations

import typer

from flows.commands import benchmark_preprocess, benchmark_training, benchmark_transfer


def register(app: typer.Typer) -> None:
    """Add these commands to `app`."""
    benchmark = typer.Typer(help="Measure this machine, this cluster, these links.", no_args_is_help=True)
    benchmark_preprocess.register(benchmark)
    benchmark_training.register(benchmark)
    benchmark_transfer.register(benchmark)
    app.add_typer(benchmark, name="benchmark")
