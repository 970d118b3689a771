"""What a preprocessing benchmark measures, under which conditions, and which machine its model is asked about."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pydantic import Field

from flows.benchmark.order import in_random_order
from flows.preprocess_benchmark.cell import Cell, Sampling
from tasks.artifacts import Record
from tasks.config import Encoding, PreprocessConfig


class Conditions(Record):
    """What has to be the same for all measurements of one report.

    Attributes
    ----------
    slides
        Folder or table of slides; None: synthetic ones are made below the root of the site.
    synth_px
        Side of these.
    """

    site: str
    slides: Path | None = None
    synth_px: int = Field(8192, ge=512, le=200_000)
    mpp: float | None = None
    settings: PreprocessConfig


class Outlook(Record):
    """The machine that the model is asked about.

    Attributes
    ----------
    node_workers
        Workers a node; the paper's nodes had 10 cores.
    read_mb_per_s, write_mb_per_s
        What its shared file system reads and writes for all nodes together (10^6 bytes a second).
    """

    node_workers: int = Field(10, ge=1, le=1024)
    read_mb_per_s: float = Field(10_000.0, gt=0)
    write_mb_per_s: float = Field(10_000.0, gt=0)


class PreprocessBenchmark(Record):
    """What is measured: all workers × slides × (random in the first encoding, dense in each of them)."""

    sites_folder: Path | None = None
    workspace: Path
    conditions: Conditions
    workers: tuple[int, ...] = Field(min_length=1)
    slides: tuple[int, ...] = Field(min_length=1)
    sampling: tuple[Sampling, ...] = Field(min_length=1)
    encodings: tuple[Encoding, ...] = Field(min_length=1)
    repeats: int = Field(3, ge=1, le=1000)
    seed: int = 0
    outlook: Outlook = Outlook()
    output: Path


def planned_cells(plan: PreprocessBenchmark) -> list[Cell]:
    """List the cells: random patches in the first encoding only, whose differences the dense ones show."""
    return [
        Cell(sampling=sampling, encoding=encoding, workers=workers, slides=slides)
        for sampling in plan.sampling
        for encoding in (plan.encodings if sampling == "dense" else plan.encodings[:1])
        for slides in plan.slides
        for workers in plan.workers
    ]


def measurement_order(cells: Sequence[Cell], plan: PreprocessBenchmark) -> list[tuple[Cell, int]]:
    """Give the order of the measurements, with one warm-up: what is cold is cold once, for all cells."""
    warm = max(cells, key=lambda cell: (cell.slides, cell.workers))
    return [one for one in in_random_order(cells, plan.repeats, plan.seed) if one[1] > 0 or one[0] == warm]
