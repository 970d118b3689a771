"""One measurement of the training benchmark: a training of a few epochs with real Horovod ranks."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import Field

from flows.training_benchmark.plan import Cell, Conditions
from tasks.artifacts import Record
from tasks.errors import CamNetError, InputError
from tasks.train_config import TrainConfig
from tasks.training.job import ShardOfJob
from tasks.training.timeline import gradient_all_reduces
from tasks.training.train import train

_TIMELINE = "HOROVOD_TIMELINE"


class Epoch(Record):
    """One epoch, as the training's log tells it.

    Attributes
    ----------
    seconds
        All its steps, with the waiting for input.
    waiting_s
        For input; mean of the ranks.
    patches_per_s
        Of all ranks together.
    """

    steps: int = Field(ge=1)
    seconds: float
    waiting_s: float
    patches_per_s: float


class Trial(Record):
    """One measurement of a cell.

    Attributes
    ----------
    repeat
        From 1.
    load, load_after
        Processes that wanted a processor, mean of the last minute: before, which others caused, and after.
    wall_s
        From the call to the finished model.
    start_up_s
        From the call to the first step: processes, imports, digests of the shards, the network.
    epochs
        The first holds the compilation of the step and is start-up too.
    rows
        Patches that there were; of given shards more than the cell asks for.
    parameters
        That train.
    all_reduce_s, gradient_bytes
        Seconds in which gradients were averaged, of each step after the first epoch; and their bytes a rank. None of
        one rank.
    error
        Why it failed, or None.
    """

    cell: Cell
    repeat: int = Field(ge=1)
    start: str
    load: float
    load_after: float = 0.0
    wall_s: float = 0.0
    start_up_s: float = 0.0
    epochs: tuple[Epoch, ...] = ()
    rows: int = 0
    parameters: int = 0
    all_reduce_s: tuple[float, ...] = ()
    gradient_bytes: int = 0
    error: str | None = None

    @property
    def counted(self) -> tuple[Epoch, ...]:
        """All epochs after the first."""
        return self.epochs[1:]


def run_trial(
    cell: Cell, repeat: int, *, shards: Sequence[ShardOfJob], rows: int, conditions: Conditions, folder: Path
) -> Trial:
    """Train in an empty folder and remove what was made.

    Parameters
    ----------
    shards
        All are trained on; `rows` are in them.
    folder
        What is in it is lost.

    Raises
    ------
    InputError
        What was asked for cannot be trained: other trials would not be better off.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    events: list[dict[str, Any]] = []
    told: dict[str, Any] = {"cell": cell, "repeat": repeat, "load": os.getloadavg()[0], "rows": rows}
    told["start"] = time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime())
    timeline = folder / "timeline.json"
    called, began = datetime.now(UTC), time.monotonic()
    try:
        with _environment(_TIMELINE, str(timeline) if cell.ranks > 1 else None):
            train(
                train_config(cell, conditions),
                shards,
                folder / "model",
                ranks=cell.ranks,
                threads=cell.threads,
                key="benchmark",
                on_progress=events.append,
            )
        wall_s = time.monotonic() - began
        measured = _measured(events, called, timeline if cell.ranks > 1 else None)
        return Trial(**told, **measured, wall_s=wall_s, load_after=os.getloadavg()[0])
    except InputError:
        raise
    except CamNetError as fault:
        return Trial(**told, error=str(fault))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def train_config(cell: Cell, conditions: Conditions) -> TrainConfig:
    """Give the configuration that is trained: the paper's optimiser, and CamNet's augmentation."""
    return TrainConfig(
        architecture=cell.architecture,
        epochs=conditions.epochs,
        checkpoint_epochs=conditions.epochs,
        checkpoint_minutes=0,  # none is written within what is measured
        batch_size=conditions.batch_size,
        precision=conditions.precision,
        compression=conditions.compression,
        xla=conditions.xla,
        controller=conditions.controller,
        measure_test=False,
    )


def trial_line(trial: Trial) -> str:
    """Tell in one line what was measured."""
    cell = trial.cell
    what = f"{cell.architecture}, {cell.shape}, {cell.rows} patches, repeat {trial.repeat}"
    if trial.error is not None:
        return f"{what}: failed: {trial.error}"
    seconds = ", ".join(f"{epoch.seconds:.1f}" for epoch in trial.epochs)
    return f"{what}: start-up {trial.start_up_s:.1f} s, epochs {seconds} s, load {trial.load:.1f}"


def _measured(events: Sequence[dict[str, Any]], called: datetime, timeline: Path | None) -> dict[str, Any]:
    """Sort what the log told: start-up, epochs, averages of the epochs that count."""
    ended = [event for event in events if event["event"] == "epoch"]
    epochs = tuple(
        Epoch(
            steps=event["steps"],
            seconds=event["seconds"],
            waiting_s=event["waiting_s"],
            patches_per_s=event["patches_per_s"],
        )
        for event in ended
    )
    to_first_end_s = (datetime.fromisoformat(ended[0]["time"]) - called).total_seconds()
    averages = [] if timeline is None else gradient_all_reduces(timeline)[epochs[0].steps :]
    return {
        "start_up_s": max(0.0, to_first_end_s - epochs[0].seconds),
        "epochs": epochs,
        "parameters": next(event["parameters"] for event in events if event["event"] == "stage"),
        "all_reduce_s": tuple(step.seconds for step in averages),
        "gradient_bytes": averages[0].bytes if averages else 0,
    }


@contextmanager
def _environment(name: str, value: str | None) -> Iterator[None]:
    """Set a variable of this process, which the launcher hands to the ranks; None: it is absent."""
    before = os.environ.pop(name, None)
    if value is not None:
        os.environ[name] = value
    try:
        yield
    finally:
        os.environ.pop(name, None)
        if before is not None:
            os.environ[name] = before
