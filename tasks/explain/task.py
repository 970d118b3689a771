"""Prefect's view of explanations: one task for all slides of a site."""

from __future__ import annotations

import logging
from pathlib import Path

from prefect import task

from tasks.artifacts import Record
from tasks.config import ExplainConfig
from tasks.errors import InputError, IntegrityError
from tasks.explain.outcome import ExplainOutcome
from tasks.load_keras import load_keras


class SlideToExplain(Record):
    """A scored slide: its dense shard, or all parts of it, and its scores."""

    slide: str
    shards: tuple[Path, ...]
    scores: Path


class UnexplainedSlide(Record):
    """A slide that could not be explained, and why."""

    slide: str
    reason: str
    remedy: str | None


class Explanations(Record):
    """What was explained and what was not."""

    done: tuple[ExplainOutcome, ...]
    failed: tuple[UnexplainedSlide, ...]


log = logging.getLogger(__name__)


@task(name="explain-slides", persist_result=True, result_serializer="json")
def explain_slides_task(
    model_folder: Path, slides: list[SlideToExplain], out: Path, config: ExplainConfig
) -> Explanations:
    """Explain the highest scored patches of each slide; a bad slide is reported and the others go on."""
    # TensorFlow is needed only where explanations run, not where the flow is read.
    load_keras()
    from tasks.explain.explain import explain_slide

    done: list[ExplainOutcome] = []
    failed: list[UnexplainedSlide] = []
    for slide in slides:
        try:
            done.append(explain_slide(model_folder, slide.shards, slide.scores, out, config))
            log.info("%s: %d patches explained", slide.slide, len(done[-1].patches))
        except (InputError, IntegrityError) as error:
            reason = f"{error.subject}: {error.cause}" if error.subject else error.cause
            failed.append(UnexplainedSlide(slide=slide.slide, reason=reason, remedy=error.remedy))
            log.warning("%s could not be explained: %s", slide.slide, reason)
    return Explanations(done=tuple(done), failed=tuple(failed))
