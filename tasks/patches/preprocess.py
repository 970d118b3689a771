"""Layer 1 for one slide: masks, sampled and dense shards, pictures (paper section 3.5, figure 4)."""

from __future__ import annotations

import time
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from tasks import atomic
from tasks.artifacts import all_present, describe, read_record
from tasks.errors import CamNetError, InputError
from tasks.patches.attributes import SCHEMA, ShardAttributes
from tasks.patches.candidates import NORMAL, TUMOUR, UNKNOWN, Selection
from tasks.patches.extract import Extraction, extract_patches
from tasks.patches.outcome import SlideFile, SlideOutcome
from tasks.patches.pictures import draw_sampling, draw_thumbnail
from tasks.patches.sampling import SlideMasks, sample_grid, sample_random
from tasks.patches.scale import Scale, scale_of
from tasks.patches.slide_job import SlideJob
from tasks.slides.annotation_files import read_annotations
from tasks.slides.annotations import Annotations, tumour_mask
from tasks.slides.focus import leave_out_blurred
from tasks.slides.geojson import to_geojson
from tasks.slides.reader import SlideReader, open_slide
from tasks.slides.tissue import tissue_mask
from tasks.slides.truth import as_outlined

NO_TISSUE = "no tissue found"
NO_SHARP_TISSUE = "no tissue found that is in focus"
# The masks of a slide of 65,000 px a side, at 8 µm; those of larger slides are coarser, and need no more memory.
_MOST_MASK_PX = 1 << 22
# Corners far outside the slide are moved to this distance: OpenCV draws in 32 bits.
_FAR_PX = 1 << 20


def preprocess_slide(job: SlideJob) -> SlideOutcome:
    """Make everything that CamNet needs from one slide.

    Returns
    -------
    SlideOutcome
        ``done``, ``excluded`` (no tissue) or ``failed``; an error of the slide is a result, not an exception,
        so that one bad slide never stops the others. Exceptions are faults of the site (disk full) or ours.
    """
    started = time.monotonic()
    try:
        digest, key = _content(job)
        outcome = find_outcome(job, key) or _make(job, digest, key)
    except InputError as error:
        outcome = failed_outcome(job, error)
    if outcome.reused:
        return outcome
    outcome = outcome.model_copy(update={"seconds": time.monotonic() - started})
    if outcome.state != "failed":
        atomic.write_text(job.outcome_path, outcome.model_dump_json(indent=1))
    return outcome


def find_outcome(job: SlideJob, key: str) -> SlideOutcome | None:
    """Return the outcome of a slide that was finished under `key` and whose files are all there."""
    outcome = read_record(job.outcome_path, SlideOutcome)
    if outcome is None or outcome.key != key or not all_present(job.root, [file.artifact for file in outcome.files]):
        return None
    return outcome.model_copy(update={"reused": True})


def failed_outcome(job: SlideJob, error: CamNetError) -> SlideOutcome:
    """Describe a slide that could not be finished; the reason names the file when it is not the slide itself."""
    other = error.subject is not None and error.subject != str(job.record.path)
    reason = f"{error.subject}: {error.cause}" if other else error.cause
    return _outcome(job, "failed", reason=reason, remedy=error.remedy)


def _content(job: SlideJob) -> tuple[str, str]:
    """Give the digest of the slide and the content key, both from reading the slide and its annotation."""
    try:
        digest = job.slide_digest()
        return digest, job.key(digest)
    except OSError as error:
        raise InputError(
            f"cannot be read ({error.strerror})",
            subject=error.filename or job.record.path,
            remedy="check that the file is there and belongs to you, or take it out of the cohort",
        ) from error


def _make(job: SlideJob, digest: str, key: str) -> SlideOutcome:
    with open_slide(job.record.path, job.mpp) as reader:
        scale = scale_of(reader, job.config)
        annotations = _annotations(job, reader)
        job = job.model_copy(update={"record": as_outlined(job.record, annotations)})
        masks = _masks(reader, annotations, job)
        if not masks.tissue.any():
            reason = NO_TISSUE if job.config.tissue.max_blur_um is None else NO_SHARP_TISSUE
            return _outcome(job, "excluded", key=key, reason=reason)
        return _cut(job, digest, key, reader, scale, masks, annotations)


def _cut(
    job: SlideJob,
    digest: str,
    key: str,
    reader: SlideReader,
    scale: Scale,
    masks: SlideMasks,
    annotations: Annotations | None,
) -> SlideOutcome:
    files: list[SlideFile] = []
    random = _random_selection(job, masks, scale)
    attributes = _attributes(job, digest, reader, scale, "random")
    sampled = extract_patches(reader, random, attributes, job.config, job.sampled_path)
    files.append(_file(job, job.sampled_path, "patches", key, rows=sampled.rows))
    grid = Extraction.empty()
    if job.split in job.config.grid_splits:
        attributes = _attributes(job, digest, reader, scale, "grid")
        grid = extract_patches(reader, _grid_selection(job, masks, scale), attributes, job.config, job.grid_path)
        files.append(_file(job, job.grid_path, "patches", key, rows=grid.rows))
    picture = draw_thumbnail(reader, job.thumbnail_path)
    files.append(_file(job, job.thumbnail_path, "thumbnail", key))
    draw_sampling(picture, masks, job.sampled_path, job.sampling_path)
    files.append(_file(job, job.sampling_path, "thumbnail", key))
    if annotations is not None:
        atomic.write_text(job.annotation_path, to_geojson(annotations))
        files.append(_file(job, job.annotation_path, "annotation", key))
    return _outcome(
        job,
        "done",
        key=key,
        files=tuple(files),
        tumour_patches=sampled.kept[TUMOUR],
        normal_patches=sampled.kept[NORMAL],
        unknown_patches=sampled.kept[UNKNOWN],
        grid_patches=grid.rows,
        rejected=_counts(sampled, "random") | _counts(grid, "grid"),
    )


def _annotations(job: SlideJob, reader: SlideReader) -> Annotations | None:
    if job.record.annotation is None:
        return None
    read = read_annotations(job.record.annotation, job.record.tumour_values)
    return read.within(*reader.dimensions_px)


def _masks(reader: SlideReader, annotations: Annotations | None, job: SlideJob) -> SlideMasks:
    overview = reader.read_overview(job.config.tissue.mask_mpp, most_px=_MOST_MASK_PX)
    shape = overview.rgb.shape[:2]
    tissue = tissue_mask(overview.rgb, job.config.tissue, overview.um_per_px).mask
    if job.config.tissue.max_blur_um is not None:
        tissue = leave_out_blurred(reader, overview, tissue, job.config.tissue.max_blur_um)
    annotations = annotations or Annotations(())
    tumour = tumour_mask(annotations, shape, overview.downsample, overview.downsample)
    near_tumour = _with_margin(tumour, annotations, overview.downsample)
    width, height = reader.dimensions_px
    return SlideMasks(tissue, tumour, near_tumour, overview.downsample, overview.downsample, width, height)


def _with_margin(tumour: NDArray[np.uint8], annotations: Annotations, downsample: float) -> NDArray[np.uint8]:
    """Tumour and all pixels that an outline of tumour touches, with the pixels beside them.

    A lesion thinner than a mask pixel may contain no pixel's centre; its outline is there all the same.
    """
    drawn = tumour.copy()
    for ring in (ring for polygon in annotations.of("tumour") for ring in polygon.rings):
        corners = np.clip(ring / downsample, -_FAR_PX, _FAR_PX)
        cv2.polylines(drawn, [np.floor(corners).astype(np.int32)], isClosed=True, color=1)
    return cv2.dilate(drawn, np.ones((3, 3), np.uint8)).astype(np.uint8)


def _random_selection(job: SlideJob, masks: SlideMasks, scale: Scale) -> Selection:
    return sample_random(
        masks,
        job.config,
        patch_level0_px=scale.cut_level0_px,
        truth=job.record.truth,
        exhaustive=job.record.exhaustive,
        seed=job.slide_seed,
    )


def _grid_selection(job: SlideJob, masks: SlideMasks, scale: Scale) -> Selection:
    return sample_grid(
        masks,
        job.config,
        patch_level0_px=scale.cut_level0_px,
        stride_level0_px=scale.stride_level0_px(job.config.grid_stride_px),
        truth=job.record.truth,
        exhaustive=job.record.exhaustive,
        seed=job.slide_seed,
    )


def _attributes(job: SlideJob, digest: str, reader: SlideReader, scale: Scale, sampling: str) -> ShardAttributes:
    record, config = job.record, job.config
    width, height = reader.dimensions_px
    return ShardAttributes.model_validate(
        {
            "slide": record.name,
            "slide_digest": digest,
            "patient": record.patient,
            "node": record.node,
            "centre": record.centre,
            "split": job.split,
            "truth": record.truth,
            "level": scale.level,
            "level_downsample": scale.level_downsample,
            "mpp": scale.mpp,
            "patch_px": config.patch_px,
            "cut_px": None if scale.cut_px == config.patch_px else scale.cut_px,
            "stride_px": config.grid_stride_px if sampling == "grid" else 0,
            "slide_width_px": width,
            "slide_height_px": height,
            "sampling": sampling,
            "seed": job.slide_seed,
            "encoding": config.encoding,
            "configuration": config.model_dump_json(),
        }
    )


def _file(job: SlideJob, path: Path, kind: str, key: str, rows: int | None = None) -> SlideFile:
    artifact = describe(job.root, path, made_by=SCHEMA, key=key)
    return SlideFile.model_validate({"artifact": artifact, "kind": kind, "rows": rows})


def _counts(extraction: Extraction, sampling: str) -> dict[str, int]:
    return {f"{sampling}: {reason}": count for reason, count in sorted(extraction.rejected.items())}


def _outcome(job: SlideJob, state: str, **facts: object) -> SlideOutcome:
    record = job.record
    return SlideOutcome.model_validate(
        {
            "slide": record.name,
            "patient": record.patient,
            "centre": record.centre,
            "split": job.split,
            "truth": record.truth,
            "state": state,
            **facts,
        }
    )
