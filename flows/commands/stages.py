"""Every stage alone; each finds what the stages before it left in the run folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flows.commands.array import write_array
from flows.commands.options import DEFAULT_WORKSPACE, ConfigOption, WorkspaceOption, print_json
from tasks.errors import InputError, PartialResult

if TYPE_CHECKING:
    from flows.run_state import RunState


def register(app: typer.Typer) -> None:
    """Add these commands to `app`."""
    for command in (preprocess, transfer, train, infer, explain):
        app.command()(command)


def preprocess(
    config: ConfigOption,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    sbatch_array: Annotated[
        Path | None,
        typer.Option("--sbatch-array", help="write a Slurm job array for the unfinished slides instead, and stop"),
    ] = None,
    array_size: Annotated[int, typer.Option("--array-size", min=1, help="most tasks of that array")] = 1000,
) -> None:
    """Layer 1: slides to shards and their manifest."""
    if sbatch_array is not None:
        write_array(config, workspace, sbatch_array, array_size)
        return
    from flows.preprocess import preprocess as stage_flow

    state = _advance(config, workspace, "preprocessed", lambda state: stage_flow(state.context))
    _refuse_failures(state)


def transfer(
    config: ConfigOption,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    again: Annotated[bool, typer.Option("--again", help="look at every file also if it was moved before")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="say what would be moved, and how; move nothing")] = False,
) -> None:
    """Move the shards to the training site, measured and verified."""
    if dry_run:
        _forecast(config, workspace)
        return
    from flows.stage import stage as stage_flow

    def run(state: RunState) -> object:
        made = _needed(state.preprocessed, "preprocess")
        return stage_flow(state.context, manifest=made.manifest, destination=state.context.trainer.name, again=again)

    _advance(config, workspace, "staged", run)


def train(
    config: ConfigOption,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    return_to: Annotated[
        str | None, typer.Option("--return-to", help="then move weights, card, log and curves to this site")
    ] = None,
) -> None:
    """Layer 2: shards to a model."""
    from deployments.sites import site_named
    from flows.train import train as stage_flow

    def run(state: RunState) -> object:
        if return_to is not None:
            site_named(state.context.sites, return_to)
        if state.context.config.train.arrival.follow:
            # The transfer may still run, in another process.
            return stage_flow(state.context, manifest=_needed(state.preprocessed, "preprocess").manifest)
        return stage_flow(state.context, manifest=_needed(state.staged, "transfer").manifest)

    state = _advance(config, workspace, "trained", run)
    if return_to is not None:
        _return_model(state, return_to)


def _return_model(state: RunState, destination: str) -> None:
    from flows.return_model import return_model
    from flows.server import prefect_api

    with prefect_api(state.context.workspace / "prefect"):
        print_json(return_model(state.context, trained=_needed(state.trained, "train"), destination=destination))


def infer(config: ConfigOption, workspace: WorkspaceOption = DEFAULT_WORKSPACE) -> None:
    """Layer 3: dense shards to scores and heatmaps."""
    from flows.infer import infer as stage_flow

    def run(state: RunState) -> object:
        trained = _needed(state.trained, "train")
        return stage_flow(state.context, manifest=_needed(state.staged, "transfer").manifest, trained=trained)

    _refuse_failures(_advance(config, workspace, "inferred", run))


def explain(config: ConfigOption, workspace: WorkspaceOption = DEFAULT_WORKSPACE) -> None:
    """Layer 3: what the model looked at in the highest scored patches."""
    from flows.explain import explain as stage_flow

    def run(state: RunState) -> object:
        manifest = _needed(state.staged, "transfer").manifest
        trained, scored = _needed(state.trained, "train"), _needed(state.inferred, "infer")
        return stage_flow(state.context, manifest=manifest, trained=trained, inferred=scored)

    _refuse_failures(_advance(config, workspace, "explained", run))


def _forecast(config: Path, workspace: Path) -> None:
    """Print what `transfer` would do."""
    from flows.context import make_context
    from flows.run_state import RunState, read_state
    from flows.stage import run_ledger, staged_batch, transfer_options
    from tasks.config import load_config
    from transfer.dry_run import dry_run

    context = make_context(load_config(config), workspace, "embedded")
    made = _needed((read_state(context.run_folder) or RunState(context=context)).preprocessed, "preprocess")
    batch = staged_batch(context, made.manifest, context.trainer.name)
    protocol = context.config.transfer.protocol
    print_json(dry_run(batch, protocol=protocol, options=transfer_options(context), ledger=run_ledger(context)))


def _advance(
    config: ConfigOption, workspace: WorkspaceOption, name: str, run: Callable[[RunState], object]
) -> RunState:
    """Run one stage on the saved state of the run, save the new state and print the stage's result."""
    from flows.context import make_context
    from flows.run_state import RunState, read_state
    from flows.server import prefect_api
    from tasks.config import load_config

    context = make_context(load_config(config), workspace, "embedded")
    before = read_state(context.run_folder) or RunState(context=context)
    state = before.model_copy(update={"context": context, "fatal": None})
    with prefect_api(context.workspace / "prefect"):
        result: Any = run(state)
    # Another stage may have ended meanwhile: a training that follows arriving shards runs beside their transfer.
    latest = read_state(context.run_folder) or state
    state = latest.model_copy(update={"context": context, "fatal": None, name: result})
    state.save()
    print_json(result)
    return state


def _needed(result: Any, command: str) -> Any:  # noqa: ANN401  # one of the stages' results
    if result is None:
        raise InputError("the stage before has not run", remedy=f"run `camnet {command}` with the same options first")
    return result


def _refuse_failures(state: RunState) -> None:
    if state.failures:
        raise PartialResult(
            f"{len(state.failures)} inputs failed: " + ", ".join(failure.subject for failure in state.failures),
            subject=state.context.config.name,
            remedy="see the reasons above; mend them and run again: the rest is kept",
        )
