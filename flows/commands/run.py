"""``camnet run``: the whole pipeline."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from flows.commands.options import DEFAULT_WORKSPACE, ConfigOption, JsonOption, WorkspaceOption, print_json
from tasks.errors import PartialResult


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command()(run)


def run(
    config: ConfigOption,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    deployed: Annotated[
        bool, typer.Option("--deployed", help="each stage as a deployment in its site's work pool (needs a server)")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Run all stages; what was finished under the same content key is found, not made again."""
    from flows.context import make_context
    from tasks.config import load_config

    context = make_context(load_config(config), workspace, "deployed" if deployed else "embedded")
    run_context(context, as_json=as_json)


def run_context(context: object, *, as_json: bool = False) -> None:
    """Run the pipeline for a context and tell how it ended.

    Raises
    ------
    CamNetError
        What ended the run; `PartialResult` when some slides failed and the others are finished.
    """
    from flows.context import RunContext
    from flows.pipeline import pipeline
    from flows.server import prefect_api

    if not isinstance(context, RunContext):
        raise TypeError(f"{context!r} is no RunContext")
    with prefect_api(context.workspace / "prefect"):
        state = pipeline(context)
    if as_json:
        print_json(state)
    else:
        _tell(state.context.run_folder)
    if state.failures:
        raise PartialResult(
            f"{len(state.failures)} inputs failed: " + ", ".join(failure.subject for failure in state.failures),
            subject=state.context.config.name,
            remedy=f"see {state.context.run_folder / 'report.html'}; mend them and run again: the rest is kept",
        )


def _tell(run_folder: Path) -> None:
    from flows.report import report_data
    from flows.run_state import read_state
    from tasks.report.formats import duration

    state = read_state(run_folder)
    if state is None:
        return
    data = report_data(state)
    table = Table("stage", "site", "time", "")
    for row in data.stages:
        table.add_row(row.stage, row.site, duration(row.seconds), "found finished" if row.reused else row.detail)
    console = Console(highlight=False)
    console.print(table)
    for route in data.transfers:
        rate = "-" if route.megabits_per_s is None else f"{route.megabits_per_s:.0f} Mb/s"
        console.print(
            f"{route.source} → {route.destination} over {route.protocol}: "
            f"{route.files} files, {route.bytes / 1e6:.1f} MB, {rate}"
        )
    for name, score in (("patch", data.patch_auc), ("slide", data.slide_auc)):
        if score is not None:
            figure = score.note if score.value is None else f"{score.value:.3f}"
            console.print(f"{name} AUC on slides that were not trained on: {figure}")
    console.print(f"report: {run_folder / 'report.html'}", soft_wrap=True)
