"""How far a run has come: results of its stages, kept in ``run.json`` after each of them."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from pydantic import Field

from flows.context import RunContext
from flows.explain import ExplainResult
from flows.infer import InferResult
from flows.preprocess import PreprocessResult
from flows.stage import StageResult
from flows.train import TrainResult
from tasks import atomic
from tasks.artifacts import Record, read_record
from tasks.report.data import Failure
from transfer.summary import RouteTotals

STATE_NAME = "run.json"


class Collected(Record):
    """Small results and pictures that were brought to the coordinator.

    Attributes
    ----------
    kept_at_site
        Files with pixels that the policy of their site keeps there.
    """

    folder: Path
    routes: tuple[RouteTotals, ...] = ()
    kept_at_site: int = 0
    seconds: float = 0.0


class RunState(Record):
    """Everything that is known of a run; what has not happened yet is None."""

    context: RunContext
    started: str = Field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))
    seconds: float = 0.0
    preprocessed: PreprocessResult | None = None
    staged: StageResult | None = None
    trained: TrainResult | None = None
    inferred: InferResult | None = None
    explained: ExplainResult | None = None
    collected: Collected | None = None
    fatal: Failure | None = None

    @property
    def failures(self) -> tuple[Failure, ...]:
        """Everything that was not done, in the order of the stages."""
        failures = [
            Failure(stage="preprocess", subject=outcome.slide, cause=outcome.reason, remedy=outcome.remedy)
            for outcome in (self.preprocessed.outcomes if self.preprocessed else ())
            if outcome.state == "failed"
        ]
        failures += self.inferred.failures if self.inferred else ()
        failures += self.explained.failures if self.explained else ()
        return (*failures, *([self.fatal] if self.fatal else []))

    @property
    def state(self) -> Literal["done", "partial", "failed", "unfinished"]:
        """``failed``: a stage could not be run. ``partial``: all could, but not for every slide."""
        if self.fatal is not None:
            return "failed"
        if self.explained is None:
            return "unfinished"
        return "partial" if self.failures else "done"

    def save(self) -> None:
        """Write ``run.json`` into the run folder."""
        atomic.write_text(self.context.run_folder / STATE_NAME, self.model_dump_json(indent=1))


def read_state(run_folder: Path) -> RunState | None:
    """Read ``run.json`` of a run folder; None when there is none."""
    return read_record(run_folder / STATE_NAME, RunState)
