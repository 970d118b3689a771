"""Commands that look at a run: status, report."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from flows.commands.options import DEFAULT_WORKSPACE, JsonOption, WorkspaceOption, print_json
from tasks.errors import InputError

if TYPE_CHECKING:
    from flows.run_state import RunState

NameArgument = Annotated[str, typer.Argument(help="name of the run")]


def register(app: typer.Typer) -> None:
    """Add these commands to `app`."""
    app.command()(status)
    app.command()(report)


def status(name: NameArgument, workspace: WorkspaceOption = DEFAULT_WORKSPACE, as_json: JsonOption = False) -> None:
    """Say how far a run has come, from its files alone (no Prefect server is needed)."""
    from flows.report import report_data

    data = report_data(_state(name, workspace))
    if as_json:
        print_json(data)
        return
    console = Console(highlight=False)
    console.print(f"{data.run}: {data.state}, started {data.started}")
    table = Table("stage", "site", "seconds", "")
    for row in data.stages:
        table.add_row(row.stage, row.site, f"{row.seconds:.1f}", "found finished" if row.reused else row.detail)
    console.print(table)
    for failure in data.failures:
        console.print(f"{failure.stage}: {failure.subject}: {failure.cause}. {failure.remedy or ''}", markup=False)


def report(name: NameArgument, workspace: WorkspaceOption = DEFAULT_WORKSPACE) -> None:
    """Write the report of a run again and say where it is."""
    from flows.report import report as write

    Console(highlight=False).print(str(write(_state(name, workspace))), soft_wrap=True)


def _state(name: str, workspace: Path) -> RunState:
    from flows.run_state import read_state

    folder = workspace.resolve() / "runs" / name
    state = read_state(folder)
    if state is None:
        raise InputError("has no run", subject=folder, remedy="check the name and --workspace, or run `camnet run`")
    return state
