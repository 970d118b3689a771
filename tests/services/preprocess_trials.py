"""Trials of the preprocessing benchmark as they would be measured, without measuring."""

from __future__ import annotations

from typing import Any

from flows.course import Course
from flows.preprocess_benchmark.cell import Cell, Trial
from tasks.patches.effort import Effort, Spent, WorkerProcess

PATCHES_A_SLIDE, SLIDE_BYTES = 2000, 20_000_000


def made_trial(cell: Cell, repeat: int = 1, **changes: Any) -> Trial:  # noqa: ANN401  # fields of a trial
    """Give a trial in which a slide takes two seconds of one worker, and all workers share two cores."""
    share = cell.slides / min(cell.workers, cell.slides, 2)
    working = min(cell.workers, cell.slides)
    course = Course(
        queued_s=0.2 + 0.01 * cell.slides,
        startup_s=2.0,
        slides_s=1.0 + 2.0 * share + 0.01 * repeat,
        closing_s=1.0,
        manifest_s=0.05,
        coordinator_cpu_s=0.5 + 0.03 * cell.slides,
        workers=cell.workers,
        tasks=cell.slides,
    )
    seconds = {"read": 0.02, "masks": 0.3, "pictures": 0.2, "cut": 1.2, "digest": 0.2}
    phases = {name: Spent(wall_s=each * cell.slides, cpu_s=each * cell.slides) for name, each in seconds.items()}
    effort = {
        "whole": Spent(wall_s=2.0 * cell.slides, cpu_s=2.0 * cell.slides),
        "phases": phases,
        "read_bytes": 2 * SLIDE_BYTES * cell.slides + 150_000 * PATCHES_A_SLIDE * cell.slides,
        "written_bytes": 150_000 * PATCHES_A_SLIDE * cell.slides,
        "workers": {
            f"n{number}/1": WorkerProcess(host="vm", cpu_s=1.5 + 2.0 * cell.slides / working, cores=2, host_cores=2)
            for number in range(working)
        },
    }
    facts = {
        "cell": cell,
        "repeat": repeat,
        "start": f"2026-11-26T20:00:{repeat:02}+00:00",
        "load": 0.5,
        "course": course,
        "effort": Effort.model_validate(effort),
        "slide_bytes": SLIDE_BYTES * cell.slides,
        "mask_px": 100_000 * cell.slides,
        "patches_by_slide": (PATCHES_A_SLIDE,) * cell.slides,
        "patch_bytes": 150_000 * PATCHES_A_SLIDE * cell.slides,
        "files": 4 * cell.slides,
    }
    return Trial.model_validate(facts | changes)


def failed_trial(cell: Cell, error: str) -> Trial:
    """Give a trial that failed."""
    return Trial(cell=cell, repeat=1, start="2026-11-26T20:00:00+00:00", load=0.5, error=error)


def made_trials(**changes: Any) -> list[Trial]:  # noqa: ANN401  # fields of a trial
    """Give a small matrix with its warm-up."""
    cells = [
        Cell(sampling=sampling, encoding=encoding, workers=workers, slides=slides)
        for sampling, encoding in (("random", "raw"), ("dense", "raw"), ("dense", "tiles"))
        for slides in (1, 4)
        for workers in (1, 2)
    ]
    return [made_trial(cells[-1], 0)] + [made_trial(cell, repeat, **changes) for cell in cells for repeat in (1, 2, 3)]
