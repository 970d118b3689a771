"""Prefect's view of inference: one task for all slides of a site, since the model is read once."""

from __future__ import annotations

import logging
from pathlib import Path

from prefect import task

from tasks.artifacts import Record
from tasks.config import InferConfig
from tasks.inference.evaluate import Evaluation, evaluate
from tasks.inference.scores import read_scores
from tasks.inference.slide_files import FailedSlide, InferredSlide, SlideInputs
from tasks.load_keras import load_keras


class Inference(Record):
    """What was scored, what was not, and how good the scores are (None when no slide could be scored)."""

    done: tuple[InferredSlide, ...]
    failed: tuple[FailedSlide, ...]
    evaluation: Evaluation | None


log = logging.getLogger(__name__)


@task(name="infer-slides", persist_result=True, result_serializer="json")
def infer_slides_task(
    model_folder: Path, slides: list[SlideInputs], out: Path, config: InferConfig, seed: int
) -> Inference:
    """Score `slides`, draw their heatmaps and compare the scores with the truth."""
    # TensorFlow is needed only where inference runs, not where the flow is read.
    load_keras()
    from tasks.inference.infer import infer_slides

    done: list[InferredSlide] = []
    failed: list[FailedSlide] = []
    for slide in infer_slides(model_folder, slides, out, config):
        if isinstance(slide, FailedSlide):
            failed.append(slide)
            log.error("%s failed: %s", slide.shard.name, slide.reason)
            continue
        done.append(slide)
        log.info("%s: score %.3f over %d patches", slide.scores.slide, slide.scores.score, slide.scores.patches)
    scores = [read_scores(slide.scores_path) for slide in done]
    evaluation = evaluate(scores, slide_quantile=config.slide_quantile, seed=seed) if scores else None
    return Inference(done=tuple(done), failed=tuple(failed), evaluation=evaluation)
