"""Makes one part of what is made from a slide: the random patches with the pictures, or a band of the dense grid."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tasks.artifacts import describe
from tasks.patches.attributes import SCHEMA, ShardAttributes
from tasks.patches.bands import band
from tasks.patches.candidates import NORMAL, TUMOUR, UNKNOWN, Selection
from tasks.patches.effort import spent_on
from tasks.patches.extract import Extraction, extract_patches
from tasks.patches.outcome import SlideFile, SlideOutcome, slide_outcome
from tasks.patches.pictures import draw_sampling, draw_thumbnail
from tasks.patches.sampling import SlideMasks, sample_grid, sample_random
from tasks.patches.scale import Scale, corners_px
from tasks.patches.slide_in_work import SlideInWork
from tasks.patches.slide_job import SlideJob
from tasks.patches.slide_parts import GRID, RANDOM
from tasks.slides.openslide_tiles import OpenSlideTiles


def make_part(slide: SlideInWork, number: int, parts: int) -> SlideOutcome:
    """Make the random patches and the pictures (`number` 0), or a band of the dense grid (1 to `parts`).

    Raises
    ------
    InputError
        The slide is broken (see `tasks.patches.extract`), or a folder is not writable.
    PermanentFault
        The disk is full.
    """
    return _make_band(slide, number, parts) if number else _make_sampled(slide, parts)


def _make_sampled(slide: SlideInWork, parts: int) -> SlideOutcome:
    job = slide.job
    attributes = _attributes(slide, "random")
    with spent_on("cut"):
        selection = _random_selection(job, slide.masks, slide.scale)
        sampled = extract_patches(slide.reader, selection, attributes, job.config, job.sampled_path)
    with spent_on("pictures"):
        picture = draw_thumbnail(slide.reader, job.thumbnail_path)
        draw_sampling(picture, slide.masks, job.sampled_path, job.sampling_path)
    files = [_file(slide, job.sampled_path, "patches", rows=sampled.rows)]
    files += [_file(slide, path, "thumbnail") for path in (job.thumbnail_path, job.sampling_path)]
    if job.record.annotation is not None:
        files.append(_file(slide, job.annotation_path, "annotation"))
    return slide_outcome(
        job,
        "done",
        key=slide.key,
        parts=parts,
        files=tuple(files),
        tumour_patches=sampled.kept[TUMOUR],
        normal_patches=sampled.kept[NORMAL],
        unknown_patches=sampled.kept[UNKNOWN],
        rejected=_counts(sampled, RANDOM),
    )


def _make_band(slide: SlideInWork, part: int, parts: int) -> SlideOutcome:
    job, path = slide.job, slide.job.grid_part_path(part, parts)
    attributes = _attributes(slide, "grid")
    with spent_on("cut"):
        selection = _grid_selection(job, slide.masks, slide.scale)
        if parts > 1:
            selection = band(selection, _tile_rows(slide, selection), part, parts)
            attributes = attributes.model_copy(update={"part": part, "parts": parts})
        grid = extract_patches(slide.reader, selection, attributes, job.config, path)
    return slide_outcome(
        job,
        "done",
        key=slide.key,
        parts=parts,
        files=(_file(slide, path, "patches", rows=grid.rows),),
        grid_patches=grid.rows,
        rejected=_counts(grid, GRID),
    )


def _tile_rows(slide: SlideInWork, selection: Selection) -> NDArray[np.int64]:
    """Row of tiles that each candidate's upper edge lies in, (n,)."""
    scale, candidates = slide.scale, selection.candidates
    grid = OpenSlideTiles(slide.reader, scale.level).grid
    corners = candidates.x_level0_px, candidates.y_level0_px
    return corners_px(*corners, scale.level_downsample, scale.cut_px, grid)[1] // grid.tile_height_px


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


def _attributes(slide: SlideInWork, sampling: str) -> ShardAttributes:
    job, scale = slide.job, slide.scale
    record, config = job.record, job.config
    width, height = slide.reader.dimensions_px
    return ShardAttributes.model_validate(
        {
            "slide": record.name,
            "slide_digest": slide.digest,
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


def _file(slide: SlideInWork, path: Path, kind: str, rows: int | None = None) -> SlideFile:
    with spent_on("digest"):
        artifact = describe(slide.job.root, path, made_by=SCHEMA, key=slide.key)
    return SlideFile.model_validate({"artifact": artifact, "kind": kind, "rows": rows})


def _counts(extraction: Extraction, sampling: str) -> dict[str, int]:
    return {f"{sampling}: {reason}": count for reason, count in sorted(extraction.rejected.items())}
