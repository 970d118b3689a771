"""Layer 3 as a flow: dense shards to scores and heatmaps, where the model is."""

from __future__ import annotations

import time
from pathlib import Path

from prefect.artifacts import create_markdown_artifact

from flows.context import RunContext
from flows.site_flow import site_flow
from flows.train import TrainResult
from tasks import atomic
from tasks.artifacts import Artifact, Record, all_present, describe, read_record
from tasks.caching import content_key
from tasks.inference.evaluate import Evaluation, SlideScores
from tasks.inference.slide_files import InferredSlide, SlideInputs
from tasks.inference.task import Inference, infer_slides_task
from tasks.patches.shard_names import slide_of
from tasks.report.data import Failure
from transfer.manifest import Entry, Manifest, read_manifest

GRID = "grid/"
SCHEMA = "camnet-inference/1"


class ScoredSlide(Record):
    """One slide with its files below the site's root, and its dense shards below the manifest's folder."""

    scores: SlideScores
    shards: tuple[str, ...]
    scores_file: Artifact
    heatmap: Artifact


class InferResult(Record):
    """Scores of all slides with a dense shard, and their evaluation (None when no slide could be scored)."""

    key: str
    slides: tuple[ScoredSlide, ...]
    failures: tuple[Failure, ...]
    evaluation: Evaluation | None
    seconds: float
    reused: bool


@site_flow
def infer(context: RunContext, manifest: Artifact, trained: TrainResult) -> InferResult:
    """Score the dense shards of `manifest` (a path at the training site) with the trained model."""
    started = time.monotonic()
    site = context.trainer
    named = read_manifest(manifest.under(site.root))
    key = inference_key(context, named, trained)
    folder = context.folder_at(site) / "inference" / key
    found = _finished(folder / "inference.json", key, site.root)
    if found is not None:
        return found.model_copy(update={"reused": True, "seconds": time.monotonic() - started})
    inputs = slide_inputs(named, manifest.under(site.root).parent)
    inference = infer_slides_task(site.root / trained.folder, inputs, folder, context.config.infer, context.config.seed)
    shards = {name: tuple(entry.path for entry in entries) for name, entries in grid_entries(named).items()}
    result = _result(site.root, key, inference, shards, seconds=time.monotonic() - started)
    if not result.failures:
        atomic.write_text(folder / "inference.json", result.model_dump_json(indent=1))
    create_markdown_artifact(evaluation_markdown(result), key="evaluation", description=f"Inference {key}")
    return result


def grid_entries(manifest: Manifest) -> dict[str, list[Entry]]:
    """Give the dense shards of each slide, one or several parts of it, unless it has no patch in any of them."""
    slides: dict[str, list[Entry]] = {}
    for entry in manifest.entries:
        if entry.path.startswith(GRID):
            slides.setdefault(slide_of(Path(entry.path).name), []).append(entry)
    return {name: entries for name, entries in slides.items() if any(entry.rows for entry in entries)}


def slide_inputs(manifest: Manifest, folder: Path) -> list[SlideInputs]:
    """Give the dense shards of each slide of `manifest` their thumbnail and their annotation."""
    paths = {entry.path for entry in manifest.entries}
    inputs = []
    for name, entries in grid_entries(manifest).items():
        annotation = f"annotations/{name}.geojson"
        inputs.append(
            SlideInputs(
                shards=tuple(folder / entry.path for entry in entries),
                shard_digests=tuple(entry.digest for entry in entries),
                thumbnail=folder / f"thumbnails/{name}.jpg",
                annotation=folder / annotation if annotation in paths else None,
            )
        )
    return inputs


def inference_key(context: RunContext, manifest: Manifest, trained: TrainResult) -> str:
    """Content key of the scores: of the weights, the dense shards, the configuration and the code."""
    shown = [e.digest for e in manifest.entries if e.path.startswith((GRID, "thumbnails/", "annotations/"))]
    return content_key(
        SCHEMA,
        inputs=[trained.card.weights_digest, *shown, f"seed {context.config.seed}"],
        config=context.config.infer,
        code=["tasks.inference", "tasks.stain", "tasks.training.models", "tasks.auc"],
    )


def evaluation_markdown(result: InferResult) -> str:
    """Tell the essence of the scores."""
    lines = ["| slide | truth | score | patches |", "|---|---|---|---|"]
    truth = {1: "tumour", 0: "negative", None: "unknown"}
    for slide in result.slides:
        scores = slide.scores
        lines.append(f"| {scores.slide} | {truth[scores.label]} | {scores.score:.3f} | {scores.patches} |")
    lines += [f"| {failure.subject} | failed: {failure.cause} | | |" for failure in result.failures]
    if result.evaluation is not None:
        lines += ["", f"Patch AUC {result.evaluation.patch_auc}", "", f"Slide AUC {result.evaluation.slide_auc}"]
    return "\n".join(lines)


def _finished(record: Path, key: str, root: Path) -> InferResult | None:
    found = read_record(record, InferResult)
    if found is None or found.key != key:
        return None
    files = [file for slide in found.slides for file in (slide.scores_file, slide.heatmap)]
    return found if all_present(root, files) else None


def _result(
    root: Path, key: str, inference: Inference, shards: dict[str, tuple[str, ...]], *, seconds: float
) -> InferResult:
    return InferResult(
        key=key,
        slides=tuple(_scored(root, key, slide, shards[slide.scores.slide]) for slide in inference.done),
        failures=tuple(
            Failure(stage="infer", subject=slide_of(slide.shard.name), cause=slide.reason, remedy=slide.remedy)
            for slide in inference.failed
        ),
        evaluation=inference.evaluation,
        seconds=seconds,
        reused=False,
    )


def _scored(root: Path, key: str, slide: InferredSlide, shards: tuple[str, ...]) -> ScoredSlide:
    return ScoredSlide(
        scores=slide.scores,
        shards=shards,
        scores_file=describe(root, slide.scores_path, made_by="camnet-scores/1", key=key),
        heatmap=describe(root, slide.heatmap_path, made_by=SCHEMA, key=key),
    )
