"""What a preprocessing benchmark measures, and what one measurement says."""

from __future__ import annotations

from typing import Literal, get_args

from pydantic import Field

from flows.course import Course
from tasks.artifacts import Record
from tasks.config import Encoding
from tasks.patches.effort import Effort

Sampling = Literal["random", "dense"]


class Cell(Record):
    """One combination that is measured."""

    sampling: Sampling
    encoding: Encoding
    workers: int = Field(ge=1)
    slides: int = Field(ge=1)

    @property
    def kind(self) -> str:
        """Sampling and encoding: what a patch costs depends on it."""
        return f"{self.sampling} {self.encoding}"

    @property
    def rank(self) -> tuple[int, int, int, int]:
        """Its place in tables: random patches before dense ones, raw pixels first, then by size."""
        sampling, encoding = get_args(Sampling).index(self.sampling), get_args(Encoding).index(self.encoding)
        return sampling, encoding, self.slides, self.workers


class Trial(Record):
    """One measurement of a cell.

    Attributes
    ----------
    repeat
        0 is the warm-up, which counts for nothing.
    load
        Processes that wanted a processor, mean of the minute before the trial, of the machine that measures.
    course, effort
        Where the wall time went; what all workers spent. None where it failed.
    slide_bytes, mask_px
        Of all slides together, and of their masks.
    patches_by_slide
        Random and dense ones together.
    patch_bytes
        Of all shards together.
    bands
        Parts of a slide that were cut at the same time; mean over the slides.
    files
        In the manifest.
    error
        Why it failed, or None.
    """

    cell: Cell
    repeat: int = Field(ge=0)
    start: str
    load: float
    course: Course | None = None
    effort: Effort | None = None
    slide_bytes: int = 0
    mask_px: int = 0
    patches_by_slide: tuple[int, ...] = ()
    patch_bytes: int = 0
    bands: float = 1.0
    files: int = 0
    error: str | None = None

    @property
    def patches(self) -> int:
        """Of all slides."""
        return sum(self.patches_by_slide)

    @property
    def seconds(self) -> float | None:
        """From the submission to the manifest, without the closing of the cluster; None where it failed."""
        if self.course is None:
            return None
        return self.course.queued_s + self.course.startup_s + self.course.slides_s + self.course.manifest_s


def trial_line(trial: Trial) -> str:
    """Tell in one line what was measured."""
    cell = trial.cell
    what = f"{cell.kind}, slides {cell.slides}, workers {cell.workers}, " + (
        f"repeat {trial.repeat}" if trial.repeat else "warm-up"
    )
    if trial.seconds is None:
        return f"{what}: failed: {trial.error}"
    return f"{what}: {trial.seconds:.1f} s, {trial.patches} patches, load {trial.load:.1f}"
