"""The tables of a preprocessing benchmark with what was measured."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from statistics import median

from flows.preprocess_benchmark.cell import Cell, Trial
from tasks.patches.effort import Effort, Phase
from tasks.report.benchmark_data import Grid
from tasks.report.formats import count, quantity

CELL = ("sampling", "encoding", "slides", "workers")
PHASES: tuple[Phase, ...] = ("read", "masks", "pictures", "cut", "digest")


def measured_cells(trials: Iterable[Trial]) -> dict[Cell, list[Trial]]:
    """Give the trials of each cell that count: no warm-ups, none that failed."""
    cells: dict[Cell, list[Trial]] = {}
    for trial in trials:
        if trial.repeat > 0 and trial.seconds is not None:
            cells.setdefault(trial.cell, []).append(trial)
    return dict(sorted(cells.items(), key=lambda item: item[0].rank))


def measured_grid(trials: Sequence[Trial]) -> Grid:
    """Make the paper's Table 4 of one's own site."""
    cells = measured_cells(trials)
    rows = []
    for cell, found in cells.items():
        seconds = [trial.seconds or 0.0 for trial in found]
        least = min((one for one in cells if _alike(one, cell)), key=lambda one: one.workers)
        speedup = median_of(cells[least], lambda one: one.seconds) / median(seconds)
        rows.append(
            (
                *named(cell),
                count(round(median_of(found, lambda one: one.patches))),
                quantity(median(seconds)),
                f"{quantity(min(seconds))} to {quantity(max(seconds))}",
                quantity(median_of(found, lambda one: _cpu_s(_effort(one)))),
                f"{speedup:.2f}",
                str(len(found)),
                f"{min(one.load for one in found):.1f} to {max(one.load for one in found):.1f}",
            )
        )
    return Grid(
        key="preprocess-benchmark",
        title="Measured here (Table 4 of this site)",
        lead="From the submission to the manifest; median, least and most of the repeats. CPU s are those of all "
        "workers' processes with their start. Faster: than with the least number of workers. Load: processes that "
        "wanted a processor in the minute before.",
        headings=(*CELL, "patches", "s", "least to most", "CPU s", "times faster", "repeats", "load"),
        rows=tuple(rows),
    )


def course_grid(trials: Sequence[Trial]) -> Grid:
    """Say where the time goes."""
    rows = []
    for cell, found in measured_cells(trials).items():
        courses = [trial.course for trial in found if trial.course is not None]
        wall = [median(getattr(course, f"{leg}_s") for course in courses) for leg in ("queued", "startup", "slides")]
        wall.append(median(course.manifest_s for course in courses))
        phases = [median_of(found, _phase(name)) for name in PHASES]
        moved = [
            median_of(found, lambda one: _effort(one).read_bytes / 1e6),
            median_of(found, lambda one: _effort(one).written_bytes / 1e6),
        ]
        coordinator = median(course.coordinator_cpu_s for course in courses)
        rows.append(
            (*named(cell), *(f"{s:.2f}" for s in [*wall, *phases]), *map(quantity, moved), f"{coordinator:.1f}")
        )
    return Grid(
        key="preprocess-benchmark-course",
        title="Where the time goes",
        lead="Medians. Wall seconds that follow each other: until all tasks are in the queue, until the first worker "
        "is ready, until the last shard, for the manifest. Then seconds of all workers together: the slides' digests, "
        "masks, thumbnails, cutting (decoding and writing), the shards' digests. MB read and written include those "
        "from and to the page cache.",
        headings=(
            *(*CELL, "queued s", "start-up s", "slides s", "manifest s"),
            *("read s", "masks s", "pictures s", "cut s", "digests s", "MB read", "MB written", "coordinator CPU s"),
        ),
        rows=tuple(rows),
    )


def failures_grid(trials: Sequence[Trial]) -> Grid:
    """List what failed."""
    rows = tuple((*named(one.cell), one.start, one.error) for one in trials if one.error)
    return Grid(
        key="preprocess-benchmark-failures",
        title="What failed",
        lead="These are in no figure above; the same command tries them again.",
        absent="Nothing failed.",
        headings=(*CELL, "start", "error"),
        rows=rows,
    )


def named(cell: Cell) -> tuple[str, str, str, str]:
    """Give the first cells of its row."""
    return cell.sampling, cell.encoding, str(cell.slides), str(cell.workers)


def _alike(one: Cell, other: Cell) -> bool:
    return one.model_copy(update={"workers": other.workers}) == other


def _effort(trial: Trial) -> Effort:
    return trial.effort or Effort()


def _cpu_s(effort: Effort) -> float:
    return sum(worker.cpu_s for worker in effort.workers.values())


def _phase(name: Phase) -> Callable[[Trial], float]:
    return lambda trial: _effort(trial).of(name).wall_s


def median_of(trials: Iterable[Trial], value: Callable[[Trial], float | None]) -> float:
    """Give the median of something over the repeats of a cell."""
    return median(value(trial) or 0.0 for trial in trials)
