"""Layer 3 for one slide: scores and heatmap from a dense shard (paper section 3.7)."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import keras
import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from tasks.config import InferConfig
from tasks.digests import bytes_digest, file_digest
from tasks.errors import InputError, IntegrityError
from tasks.inference.evaluate import SlideScores, patch_auc, slide_score
from tasks.inference.heatmap import score_grid
from tasks.inference.heatmap_figure import HeatmapPicture, draw_heatmap
from tasks.inference.predict import check_fit, score_patches
from tasks.inference.scores import ScoreAttributes, Scores, write_scores
from tasks.inference.slide_files import FailedSlide, InferredSlide, SlideInputs
from tasks.inference.thumbnail import read_thumbnail
from tasks.patches.attributes import ShardAttributes
from tasks.patches.slide_shards import SlideShards, open_slide_shards
from tasks.slides.annotations import Annotations, tumour_mask
from tasks.slides.geojson import from_geojson
from tasks.training.card import ModelCard
from tasks.training.job import ShardOfJob, verify_shard
from tasks.training.model_folder import read_model


def infer_slide(model_folder: Path, inputs: SlideInputs, out: Path, config: InferConfig) -> InferredSlide:
    """Score one slide and draw its heatmap.

    Writes ``SLIDE.scores.h5`` and ``SLIDE.heatmap.png`` into the folder `out`.

    Raises
    ------
    InputError, IntegrityError
        The model does not fit the shard, or a file is missing or not what it should be.
    """
    model, card = read_model(model_folder)
    return _infer(model, card, inputs, out, config)


def infer_slides(
    model_folder: Path, slides: Iterable[SlideInputs], out: Path, config: InferConfig
) -> Iterator[InferredSlide | FailedSlide]:
    """Score several slides with a model that is read once; a bad slide is reported and the others go on.

    Raises
    ------
    InputError, IntegrityError
        The model folder cannot be used.
    """
    model, card = read_model(model_folder)
    for inputs in slides:
        try:
            yield _infer(model, card, inputs, out, config)
        except (InputError, IntegrityError) as error:
            reason = f"{error.subject}: {error.cause}" if error.subject else error.cause
            yield FailedSlide(shard=inputs.shards[0], reason=reason, remedy=error.remedy)


def _infer(model: keras.Model, card: ModelCard, inputs: SlideInputs, out: Path, config: InferConfig) -> InferredSlide:
    started = time.monotonic()
    for path, digest in zip(inputs.shards, inputs.shard_digests or (), strict=bool(inputs.shard_digests)):
        # Before the file is opened: some damage makes HDF5 loop for ever or crash.
        verify_shard(ShardOfJob(path=path, digest=digest))
    digests = inputs.shard_digests or tuple(map(file_digest, inputs.shards))
    with open_slide_shards(inputs.shards) as patches:
        check_fit(patches, patch_px=card.patch_px, mpp=card.mpp)
        attributes = _score_attributes(patches, card.weights_digest, _joint_digest(digests))
        scores = _score(model, card, patches, attributes, config.batch_size)
    seconds = time.monotonic() - started
    grid = score_grid(scores)
    of_slide = slide_score(scores.probability, config.slide_quantile)
    thumbnail = read_thumbnail(
        inputs.thumbnail, slide_width_px=attributes.slide_width_px, slide_height_px=attributes.slide_height_px
    )
    tumour = _tumour(inputs.annotation, attributes, thumbnail)
    scores_path, heatmap_path = out / f"{attributes.slide}.scores.h5", out / f"{attributes.slide}.heatmap.png"
    write_scores(scores_path, scores)
    draw_heatmap(heatmap_path, HeatmapPicture(attributes, grid, thumbnail, tumour, of_slide))
    summary = SlideScores(
        slide=attributes.slide,
        patient=attributes.patient,
        centre=attributes.centre,
        label=attributes.slide_label,
        score=of_slide,
        patch_auc=patch_auc(scores),
        patches=len(scores.probability),
        seconds=seconds,
    )
    return InferredSlide(scores=summary, scores_path=scores_path, heatmap_path=heatmap_path)


def _score(
    model: keras.Model, card: ModelCard, patches: SlideShards, attributes: ScoreAttributes, batch_size: int
) -> Scores:
    return Scores(
        attributes=attributes,
        x_level0_px=patches.x_level0_px,
        y_level0_px=patches.y_level0_px,
        probability=score_patches(model, patches, batch_size, stain=card.stain),
        label=patches.label,
        tumour_fraction=patches.tumour_fraction,
    )


def _joint_digest(digests: tuple[str, ...]) -> str:
    """Give the digest of a shard, or one for all parts of a slide."""
    return digests[0] if len(digests) == 1 else bytes_digest("\n".join(digests).encode())


def _score_attributes(patches: SlideShards, model_digest: str, shard_digest: str) -> ScoreAttributes:
    source = patches.attributes
    if source.sampling != "grid":
        positions = "random positions" if source.sampling == "random" else "positions that another tool chose"
        raise InputError(
            f"holds patches at {positions}, of which no heatmap can be made",
            subject=patches.path,
            remedy="score the dense shard of this slide (preprocess.grid_splits)",
        )
    if source.slide_width_px is None or source.slide_height_px is None:
        raise InputError(
            "does not say how large the slide is, so that no heatmap can be made",
            subject=patches.path,
            remedy="cut the slide itself into a dense shard (preprocess.grid_splits)",
        )
    shared = set(ScoreAttributes.model_fields) & set(ShardAttributes.model_fields) - {"format"}
    values = source.model_dump(include=shared) | {
        "stride_level0_px": source.stride_px * source.level_downsample,
        "model_digest": model_digest,
        "shard_digest": shard_digest,
    }
    try:
        return ScoreAttributes.model_validate(values)
    except ValidationError as error:
        wrong = "; ".join(f"{item['loc'][0]}: {item['msg']}" for item in error.errors())
        raise InputError(f"states values that cannot be used ({wrong})", subject=patches.path) from error


def _tumour(
    annotation: Path | None, attributes: ScoreAttributes, thumbnail: NDArray[np.uint8]
) -> NDArray[np.bool_] | None:
    if annotation is None:
        return None
    height_px, width_px = thumbnail.shape[:2]
    mask = tumour_mask(
        _read_annotation(annotation),
        (height_px, width_px),
        attributes.slide_width_px / width_px,
        attributes.slide_height_px / height_px,
    )
    return mask.astype(bool)


def _read_annotation(path: Path) -> Annotations:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot be read ({error})", subject=path, remedy="transfer the annotation again") from error
    return from_geojson(text, source=str(path))
