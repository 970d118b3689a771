"""What became of one slide in preprocessing."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from tasks.artifacts import Artifact, Record, all_present, read_record
from tasks.atomic import disk_fault
from tasks.errors import CamNetError
from tasks.patches.effort import Effort
from tasks.patches.slide_job import SlideJob

OutcomeState = Literal["done", "failed", "excluded"]


class SlideFile(Record):
    """One file made from a slide. `kind` decides what a site's policy lets out; `rows` counts patches."""

    artifact: Artifact
    kind: Literal["patches", "thumbnail", "annotation"]
    rows: int | None = None


class SlideOutcome(Record):
    """One slide: done with its files, failed with a reason and a remedy, or excluded by a rule.

    A part of a large slide is told in the same way: `tasks.patches.slide_parts.joined` makes the slide of them.

    Attributes
    ----------
    parts
        Parts of the dense grid, each a shard of its own.
    tumour_patches, normal_patches, unknown_patches
        Rows of the sampled shard by label.
    grid_patches
        Rows of the dense shard.
    rejected
        Positions left out, by sampling and reason.
    seconds
        Wall time of this slide in its worker; of all parts together where it was cut in parts.
    effort
        What its making took; of all parts together where it was cut in parts.
    reused
        Found finished under the same content key.
    """

    slide: str
    patient: str
    centre: int | None
    split: str
    truth: str
    state: OutcomeState
    key: str = ""
    reason: str = ""
    remedy: str | None = None
    files: tuple[SlideFile, ...] = ()
    parts: int = 1
    tumour_patches: int = 0
    normal_patches: int = 0
    unknown_patches: int = 0
    grid_patches: int = 0
    rejected: dict[str, int] = Field(default_factory=dict)
    seconds: float = 0.0
    effort: Effort = Effort()
    reused: bool = False


def slide_outcome(job: SlideJob, state: OutcomeState, **facts: object) -> SlideOutcome:
    """Tell what became of a slide, or of a part of it, in this state."""
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


def failed_outcome(job: SlideJob, error: CamNetError) -> SlideOutcome:
    """Describe a slide that could not be finished; the reason names the file when it is not the slide itself."""
    other = error.subject is not None and error.subject != str(job.record.path)
    reason = f"{error.subject}: {error.cause}" if other else error.cause
    return slide_outcome(job, "failed", reason=reason, remedy=error.remedy)


def find_record(path: Path, job: SlideJob, key: str) -> SlideOutcome | None:
    """Read the outcome that was recorded at `path` under `key`, if its files are all there."""
    outcome = read_record(path, SlideOutcome)
    if outcome is None or outcome.key != key or not all_present(job.root, [file.artifact for file in outcome.files]):
        return None
    return outcome.model_copy(update={"reused": True})


def forget_other(path: Path, key: str) -> None:
    """Remove a record of another key before its files are replaced: left there, it would take new ones for its own.

    Raises
    ------
    InputError
        The folder is not writable.
    """
    outcome = read_record(path, SlideOutcome)
    if not path.is_file() or (outcome is not None and outcome.key == key):
        return
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise disk_fault(error, path) from error
