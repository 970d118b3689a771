"""Explanations as a flow: what the model looked at in the highest scored patches of each slide."""

from __future__ import annotations

import time
from pathlib import Path

from flows.context import RunContext
from flows.infer import InferResult
from flows.site_flow import site_flow
from flows.train import TrainResult
from tasks import atomic
from tasks.artifacts import Artifact, Record, all_present, describe, read_record
from tasks.caching import content_key
from tasks.explain.task import SlideToExplain, explain_slides_task
from tasks.report.data import Failure

SCHEMA = "camnet-explanations/1"


class ExplainedSlide(Record):
    """One slide with its panel below the site's root."""

    slide: str
    panel: Artifact


class ExplainResult(Record):
    """The panels of all scored slides."""

    key: str
    slides: tuple[ExplainedSlide, ...]
    failures: tuple[Failure, ...]
    seconds: float
    reused: bool


@site_flow
def explain(context: RunContext, manifest: Artifact, trained: TrainResult, inferred: InferResult) -> ExplainResult:
    """Explain the slides that were scored, where the model is."""
    started = time.monotonic()
    site = context.trainer
    key = content_key(
        SCHEMA,
        inputs=[trained.card.weights_digest, *(slide.scores_file.digest for slide in inferred.slides)],
        config=context.config.explain,
        code=["tasks.explain", "tasks.stain", "tasks.training.models"],
    )
    folder = context.folder_at(site) / "explanations" / key
    found = _finished(folder / "explanations.json", key, site.root)
    if found is not None:
        return found.model_copy(update={"reused": True, "seconds": time.monotonic() - started})
    shards = manifest.under(site.root).parent
    slides = [
        SlideToExplain(
            slide=s.scores.slide,
            shards=tuple(shards / path for path in s.shards),
            scores=s.scores_file.under(site.root),
        )
        for s in inferred.slides
    ]
    made = explain_slides_task(site.root / trained.folder, slides, folder, context.config.explain)
    result = ExplainResult(
        key=key,
        slides=tuple(
            ExplainedSlide(slide=done.slide, panel=describe(site.root, done.panel, made_by=SCHEMA, key=key))
            for done in made.done
        ),
        failures=tuple(
            Failure(stage="explain", subject=failed.slide, cause=failed.reason, remedy=failed.remedy)
            for failed in made.failed
        ),
        seconds=time.monotonic() - started,
        reused=False,
    )
    if not result.failures:
        atomic.write_text(folder / "explanations.json", result.model_dump_json(indent=1))
    return result


def _finished(record: Path, key: str, root: Path) -> ExplainResult | None:
    found = read_record(record, ExplainResult)
    if found is None or found.key != key:
        return None
    return found if all_present(root, [slide.panel for slide in found.slides]) else None
