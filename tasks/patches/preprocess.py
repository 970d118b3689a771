"""Layer 1 for one slide: masks, sampled and dense shards, pictures (paper section 3.5, figure 4).

A slide whose dense grid is large is cut in parts (`tasks.patches.slide_parts`), which can be made at the same time by
several workers: `prepare_slide` once, then `preprocess_part` for each, then `finish_slide`. `preprocess_slide` does all
of it in one process, with the same result.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from tasks import atomic
from tasks.errors import InputError
from tasks.patches.effort import Effort, accounted, spent_on
from tasks.patches.make_part import make_part
from tasks.patches.outcome import SlideOutcome, failed_outcome, find_record, forget_other, slide_outcome
from tasks.patches.shard_names import SUFFIX, slide_of
from tasks.patches.slide_in_work import SlideInWork, slide_in_work
from tasks.patches.slide_job import SlideJob, SlidePart
from tasks.patches.slide_parts import find_part, find_parts, joined, parts_of, slide_parts

NO_TISSUE = "no tissue found"
NO_SHARP_TISSUE = "no tissue found that is in focus"


def preprocess_slide(job: SlideJob) -> SlideOutcome:
    """Make everything that CamNet needs from one slide.

    Returns
    -------
    SlideOutcome
        ``done``, ``excluded`` (no tissue) or ``failed``; an error of the slide is a result, not an exception,
        so that one bad slide never stops the others. Exceptions are faults of the site (disk full) or ours.
    """
    outcome = _made(job, lambda digest, key: find_outcome(job, key) or _make_slide(job, digest, key))
    return outcome if outcome.reused else _finished(job, outcome)


def prepare_slide(job: SlideJob) -> SlideOutcome | Effort:
    """Make once what all parts of a slide need: its digest, its masks, its outlines.

    Returns
    -------
    SlideOutcome or Effort
        The outcome of the slide when there is nothing more to do: it was found finished, is excluded, or has failed.
        Else what this took: its parts can be made.
    """
    with accounted() as account:
        try:
            digest, key = _content(job)
            found = find_outcome(job, key)
            if found is not None:
                return found
            with slide_in_work(job, digest, key, keep=True) as slide:
                if not slide.has_tissue:
                    return _finished(job, _excluded(slide))
        except InputError as error:
            return failed_outcome(job, error)
        return account.effort()


def preprocess_part(part: SlidePart) -> SlideOutcome:
    """Make one part of a slide; it makes for itself what `prepare_slide` has not made.

    Returns
    -------
    SlideOutcome
        With the files and counts of this part only; states and exceptions are those of `preprocess_slide`.
    """

    def make(digest: str, key: str) -> SlideOutcome:
        with slide_in_work(part.job, digest, key, keep=True) as slide:
            return _make_part(slide, part) if slide.has_tissue else _excluded(slide, part.parts)

    outcome = _made(part.job, lambda digest, key: find_part(part, key) or make(digest, key))
    return outcome if outcome.reused else _recorded(outcome, part.outcome_path)


def finish_slide(job: SlideJob, outcomes: Sequence[SlideOutcome], prepared: Effort | None = None) -> SlideOutcome:
    """Join the outcomes of all parts of a slide, and record it unless it has failed.

    Parameters
    ----------
    prepared
        What `prepare_slide` took.
    """
    outcome = joined(job, outcomes)
    if prepared is not None:
        outcome = outcome.model_copy(update={"effort": prepared + outcome.effort})
    return _finished(job, outcome)


def find_outcome(job: SlideJob, key: str) -> SlideOutcome | None:
    """Return the outcome of a slide that was finished under `key` and whose files are all there.

    Finished parts that nobody has joined yet are joined now.
    """
    found = find_record(job.outcome_path, job, key)
    if found is None:
        parts = find_parts(job, key)
        found = None if parts is None else finish_slide(job, parts).model_copy(update={"reused": True})
    return found


def _made(job: SlideJob, make: Callable[[str, str], SlideOutcome]) -> SlideOutcome:
    """Make something with the slide's digest and content key; give its outcome with what it took."""
    with accounted() as account:
        try:
            outcome = make(*_content(job))
        except InputError as error:
            outcome = failed_outcome(job, error)
        effort = account.effort()
    return outcome if outcome.reused else outcome.model_copy(update={"seconds": effort.whole.wall_s, "effort": effort})


def _finished(job: SlideJob, outcome: SlideOutcome) -> SlideOutcome:
    if outcome.state != "failed":
        _remove_other_grids(job, outcome)
    return _recorded(outcome, job.outcome_path)


def _recorded(outcome: SlideOutcome, path: Path) -> SlideOutcome:
    if outcome.state != "failed":
        atomic.write_text(path, outcome.model_dump_json(indent=1))
    return outcome


def _content(job: SlideJob) -> tuple[str, str]:
    """Give the digest of the slide and the content key, both from reading the slide and its annotation."""
    try:
        with spent_on("read"):
            digest = job.slide_digest()
        return digest, job.key(digest)
    except OSError as error:
        raise InputError(
            f"cannot be read ({error.strerror})",
            subject=error.filename or job.record.path,
            remedy="check that the file is there and belongs to you, or take it out of the cohort",
        ) from error


def _make_slide(job: SlideJob, digest: str, key: str) -> SlideOutcome:
    with slide_in_work(job, digest, key, keep=False) as slide:
        if not slide.has_tissue:
            return _excluded(slide)
        parts = parts_of(job, slide.reader, slide.scale)
        if parts > 1:
            done = [_found_or_made(slide, part) for part in slide_parts(job, parts)]
        else:
            done = [make_part(slide, number, parts) for number in ((0, 1) if job.has_grid else (0,))]
    return joined(job, done)


def _found_or_made(slide: SlideInWork, part: SlidePart) -> SlideOutcome:
    found = find_part(part, slide.key)
    return found or _recorded(_make_part(slide, part), part.outcome_path)


def _make_part(slide: SlideInWork, part: SlidePart) -> SlideOutcome:
    forget_other(part.outcome_path, slide.key)
    return make_part(slide, part.number, part.parts)


def _excluded(slide: SlideInWork, parts: int = 1) -> SlideOutcome:
    reason = NO_TISSUE if slide.job.config.tissue.max_blur_um is None else NO_SHARP_TISSUE
    return slide_outcome(slide.job, "excluded", key=slide.key, parts=parts, reason=reason)


def _remove_other_grids(job: SlideJob, outcome: SlideOutcome) -> None:
    """Remove dense shards of the slide that another configuration cut in other parts: they overlap with these."""
    named = {file.artifact.under(job.root) for file in outcome.files}
    for path in job.grid_path.parent.glob(f"*{SUFFIX}"):
        if path not in named and slide_of(path.name) == job.record.name:
            path.unlink(missing_ok=True)
