"""How many parts a slide is cut in, and what their outcomes together say of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from tasks.errors import InputError
from tasks.patches.acceptance import REASONS
from tasks.patches.effort import Effort
from tasks.patches.extract import refuse_broken_slide
from tasks.patches.outcome import SlideOutcome, failed_outcome, find_record
from tasks.patches.sampling import grid_shape
from tasks.patches.scale import Scale, scale_of
from tasks.patches.shard_names import MOST_PARTS
from tasks.patches.slide_job import SlideJob, SlidePart
from tasks.slides.reader import SlideReader, open_slide

RANDOM, GRID = "random", "grid"
"""What rejections are counted by, before their reason."""
_COUNTS = ("tumour_patches", "normal_patches", "unknown_patches", "grid_patches", "seconds")


def count_parts(job: SlideJob) -> int:
    """Give the number of parts that the dense grid of a slide is cut in; only the slide's header is read.

    It follows from the size of the slide and the configuration, never from workers. A slide that cannot be opened has
    one: whoever does it says what is wrong.
    """
    if not job.has_grid:
        return 1
    try:
        with open_slide(job.record.path, job.mpp) as reader:
            return parts_of(job, reader, scale_of(reader, job.config))
    except (InputError, OSError):
        return 1


def parts_of(job: SlideJob, reader: SlideReader, scale: Scale) -> int:
    """Give the number of parts of an open slide, at most one a row of the grid."""
    if not job.has_grid:
        return 1
    stride = scale.stride_level0_px(job.config.grid_stride_px)
    rows, columns = grid_shape(*reader.dimensions_px, scale.cut_level0_px, stride)
    return max(1, min(-(-rows * columns // job.config.grid_part_positions), rows, MOST_PARTS))


def slide_parts(job: SlideJob, parts: int) -> list[SlidePart]:
    """List the tasks of a slide that is cut in parts: the random patches, and the bands of its grid."""
    return [SlidePart(job=job, number=number, parts=parts) for number in range(parts + 1)]


def joined(job: SlideJob, outcomes: Sequence[SlideOutcome]) -> SlideOutcome:
    """Give the outcome of a slide from those of all its parts: files and counts are those of one task for the whole.

    A part that failed fails the slide, and so do more than 5 % of its grid that cannot be decoded.
    """
    for number, outcome in enumerate(outcomes):
        if outcome.state == "failed":
            name = SlidePart(job=job, number=number, parts=len(outcomes) - 1).name
            return outcome.model_copy(update={"reason": f"{name}: {outcome.reason}", "files": ()})
        if outcome.state == "excluded":
            return outcome
    rejected: Counter[str] = sum((Counter(outcome.rejected) for outcome in outcomes), Counter())
    sums = {name: sum(getattr(outcome, name) for outcome in outcomes) for name in _COUNTS}
    unreadable = rejected[f"{GRID}: unreadable"]
    tried = sums["grid_patches"] + sum(rejected[f"{GRID}: {reason}"] for reason in REASONS.values())
    try:
        refuse_broken_slide(job.record.path, unreadable, tried=tried, planned=tried)
    except InputError as error:
        return failed_outcome(job, error)
    files = sorted((file for outcome in outcomes for file in outcome.files), key=lambda file: file.kind != "patches")
    return outcomes[0].model_copy(
        update={
            "files": tuple(files),
            "rejected": dict(sorted(rejected.items(), key=lambda item: (item[0].startswith(GRID), item[0]))),
            "reused": all(outcome.reused for outcome in outcomes),
            "effort": sum((outcome.effort for outcome in outcomes), Effort()),
            **sums,
        }
    )


def find_parts(job: SlideJob, key: str) -> list[SlideOutcome] | None:
    """Give the outcomes of all parts if they are finished under `key`; None if one is not."""
    first = find_record(job.sampled_outcome_path, job, key)
    if first is None:
        return None
    found = [find_part(part, key) for part in slide_parts(job, first.parts)]
    return None if None in found else [outcome for outcome in found if outcome is not None]


def find_part(part: SlidePart, key: str) -> SlideOutcome | None:
    """Give the outcome of a part that was finished under `key` and whose files are all there."""
    return find_record(part.outcome_path, part.job, key)
