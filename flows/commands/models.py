"""``camnet models``: what finished models are worth, side by side."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from flows.commands.options import JsonOption, print_json

if TYPE_CHECKING:
    from tasks.report.quality import ModelQuality

FoldersArgument = Annotated[list[Path], typer.Argument(help="model folders, or folders with models below them")]


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command()(models)


def models(folders: FoldersArgument, as_json: JsonOption = False) -> None:
    """Compare models by their cards: figures with 95 % intervals, by split and centre."""
    from flows.shard_batch import each
    from tasks.report.quality import find_models, model_quality

    batch = each(find_models(folders), model_quality)
    if as_json:
        found = [model.model_dump(mode="json") for model in batch.results]
        print_json({"models": found, "failures": batch.failures()})
    else:
        # A line may be longer than the terminal is wide; nothing of it is left out.
        Console(width=1000, highlight=False).print(_table(batch.results))
    batch.raise_if_partial()


def _table(found: list[ModelQuality]) -> Table:
    from tasks.report.formats import count, fraction, score

    table = Table(box=None, pad_edge=False)
    for name in ("model", "architecture", "epoch", "split", "centre"):
        table.add_column(name, no_wrap=True)
    for name in ("patients", "patches", "tumour"):
        table.add_column(name, no_wrap=True, justify="right")
    figures = ("AUC", "accuracy", "sensitivity", "specificity", "log loss", "Brier score")
    for name in (*figures, "calibration error"):
        table.add_column(name, no_wrap=True)
    for model in found:
        for row in model.quality:
            measured = (row.auc, row.accuracy, row.sensitivity, row.specificity, row.log_loss, row.brier)
            table.add_row(
                str(model.folder),
                model.architecture,
                f"{model.best_epoch}/{model.epochs_run}",
                row.split_told,
                row.centre,
                *(count(number) for number in (row.patients, row.rows, row.tumour_rows)),
                *("-" if figure is None else score(figure) for figure in measured),
                fraction(row.calibration_error, "-"),
            )
        if not model.quality:
            table.add_row(str(model.folder), model.architecture, f"{model.best_epoch}/{model.epochs_run}", "none")
    return table
