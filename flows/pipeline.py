"""The whole run: slides at one site, model and heatmaps at another, one report."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from prefect import flow

from flows.at import at, both_at
from flows.collect import collect
from flows.context import RunContext, make_context
from flows.explain import ExplainResult, explain
from flows.infer import InferResult, infer
from flows.preprocess import PreprocessResult, preprocess
from flows.report import report
from flows.run_state import RunState
from flows.site_flow import run_name
from flows.stage import StageResult, stage
from flows.train import TrainResult, train
from tasks.artifacts import Artifact, Record
from tasks.config import load_config
from tasks.errors import CamNetError
from tasks.report.data import Failure

log = logging.getLogger(__name__)
R = TypeVar("R", bound=Record)


@flow(name="pipeline", flow_run_name=run_name, persist_result=True, result_serializer="json")
def pipeline(context: RunContext) -> RunState:
    """Run all stages, each at its site; the report is written also when a stage fails.

    Raises
    ------
    CamNetError
        A stage could not be run at all. Slides that failed are in the returned state instead.
    """
    return _run_stages(context)


def _run_stages(context: RunContext) -> RunState:
    source, trainer = context.source, context.trainer
    with _followed(context) as progress:
        made = progress.add("preprocessed", at(context, source, preprocess, PreprocessResult))
        trained = _stage_and_train(context, made.manifest, progress)
        there = {"manifest": made.manifest, "trained": trained}
        scored = progress.add("inferred", at(context, trainer, infer, InferResult, **there))
        explained = progress.add("explained", at(context, trainer, explain, ExplainResult, **there, inferred=scored))
        progress.add("collected", collect(context, made, trained, scored, explained))
    return progress.state


def _stage_and_train(context: RunContext, manifest: Artifact, progress: _Progress) -> TrainResult:
    """Move the shards and train on them; at once, where the training follows arriving shards."""
    source, trainer = context.source, context.trainer
    to_trainer = {"manifest": manifest, "destination": trainer.name}
    if context.config.train.arrival.follow:
        trained = both_at(
            context,
            (source, stage, StageResult, to_trainer),
            (trainer, train, TrainResult, {"manifest": manifest}),
            lambda moved: progress.add("staged", moved),
        )
    else:
        moved = progress.add("staged", at(context, source, stage, StageResult, **to_trainer))
        trained = at(context, trainer, train, TrainResult, manifest=moved.manifest)
    return progress.add("trained", trained)


@flow(name="run", persist_result=True, result_serializer="json")
def run(config: Path, workspace: Path = Path("camnet-workspace")) -> RunState:
    """Run the pipeline of a configuration file, each stage as a deployment of its site (for the UI and schedules).

    Parameters
    ----------
    config
        Run configuration (TOML) on the machine of the coordinator.
    workspace
        Folder there for the run folders.
    """
    return _run_stages(make_context(load_config(config), workspace, "deployed"))


class _Progress:
    """The growing state of a run, saved after every stage."""

    def __init__(self, context: RunContext) -> None:
        self._started = time.monotonic()
        self.state = RunState(context=context)
        self.state.save()

    def add(self, name: str, result: R) -> R:
        self.update(**{name: result})
        seconds = getattr(result, "seconds", 0.0)
        found = " (found finished)" if getattr(result, "reused", False) else ""
        log.info("%-12s %6.1f s%s", name, seconds, found)
        return result

    def update(self, **values: object) -> None:
        self.state = self.state.model_copy(update={**values, "seconds": time.monotonic() - self._started})
        self.state.save()


@contextmanager
def _followed(context: RunContext) -> Iterator[_Progress]:
    progress = _Progress(context)
    try:
        yield progress
    except BaseException as error:  # also a cancelled run says in its report how far it came
        progress.update(fatal=_failure(progress.state, error))
        raise
    finally:
        report(progress.state)


def _failure(state: RunState, error: BaseException) -> Failure:
    results = {
        "preprocess": state.preprocessed,
        "stage": state.staged,
        "train": state.trained,
        "infer": state.inferred,
        "explain": state.explained,
    }
    ended = next((stage_name for stage_name, result in results.items() if result is None), "collect")
    if isinstance(error, CamNetError):
        subject = error.subject or state.context.config.name
        return Failure(stage=ended, subject=subject, cause=error.cause, remedy=error.remedy)
    return Failure(
        stage=ended,
        subject=state.context.config.name,
        cause=f"it was stopped by {type(error).__name__}: {error}",
        remedy="see the log of the run, then run again: finished work is kept",
    )
