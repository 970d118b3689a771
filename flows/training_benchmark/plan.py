"""What a training benchmark measures, under which conditions, and which links its model is asked about."""

from __future__ import annotations

import platform
from pathlib import Path
from typing import Literal

from pydantic import Field

from flows.benchmark.order import in_random_order
from tasks.artifacts import Record
from tasks.errors import InputError
from tasks.training.architectures import architecture_named
from tasks.training.ring import Link


class Cell(Record):
    """One combination that is measured: a network, ranks with so many threads each, and patches."""

    architecture: str
    ranks: int = Field(ge=1)
    threads: int = Field(ge=1)
    rows: int = Field(ge=1)

    @property
    def shape(self) -> str:
        """Ranks × threads, as in tables."""
        return f"{self.ranks} × {self.threads}"


class Conditions(Record):
    """What has to be the same for all measurements of one report.

    Attributes
    ----------
    machine
        Name of the machine that trains.
    shards
        Folder of shards, of which the first in the order of their names are trained on; None: shards of noise.
    batch_size
        Patches a rank and step.
    epochs
        Of a measurement; the first is start-up.
    """

    machine: str = Field(default_factory=platform.node)
    shards: Path | None = None
    patch_px: int = Field(224, ge=32, le=2048)
    batch_size: int = Field(16, ge=1, le=4096)
    epochs: int = Field(3, ge=2, le=1000)
    precision: Literal["float32", "float16", "bfloat16"] = "float32"
    compression: Literal["none", "float16"] = "none"
    xla: bool = False
    controller: Literal["gloo", "mpi"] = "gloo"


class Outlook(Record):
    """The cluster that the model is asked about."""

    nodes: tuple[int, ...] = (1, 2, 4, 8, 16, 32, 64)
    links_gb_per_s: tuple[float, ...] = (1.0, 10.0, 100.0)
    latency_us: float = Field(50.0, ge=0, le=1e6)

    @property
    def links(self) -> list[Link]:
        """All links, with the latency that is the same for all."""
        return [Link(gb_per_s=rate, latency_s=self.latency_us / 1e6) for rate in self.links_gb_per_s]


class TrainingBenchmark(Record):
    """All that is measured.

    Attributes
    ----------
    shapes
        (ranks, threads of each) in turn.
    rows
        Patches; the most of them are what architectures and ranks are compared with.
    """

    workspace: Path
    conditions: Conditions
    architectures: tuple[str, ...] = Field(min_length=1)
    shapes: tuple[tuple[int, int], ...] = Field(min_length=1)
    rows: tuple[int, ...] = Field(min_length=1)
    repeats: int = Field(1, ge=1, le=1000)
    seed: int = 0
    outlook: Outlook = Outlook()
    output: Path


def figure_nine_cells(plan: TrainingBenchmark) -> list[Cell]:
    """List all architectures × all ranks, with the most patches."""
    return [
        Cell(architecture=name, ranks=ranks, threads=threads, rows=max(plan.rows))
        for name in plan.architectures
        for ranks, threads in plan.shapes
    ]


def figure_ten_cells(plan: TrainingBenchmark) -> list[Cell]:
    """List all numbers of patches, with the first architecture on the last ranks."""
    ranks, threads = plan.shapes[-1]
    return [
        Cell(architecture=plan.architectures[0], ranks=ranks, threads=threads, rows=rows) for rows in sorted(plan.rows)
    ]


def measurement_order(plan: TrainingBenchmark) -> list[tuple[Cell, int]]:
    """Give the order of the measurements: rounds (from 1) that have every cell once, in an order of their own.

    There is no warm-up: each training warms itself up with its first epoch.
    """
    cells = [*figure_nine_cells(plan), *figure_ten_cells(plan)]
    return [one for one in in_random_order(cells, plan.repeats, plan.seed) if one[1] > 0]


def refuse_impossible(plan: TrainingBenchmark) -> None:
    """Refuse networks that are not known or do not take such patches, and ranks that would get no patch.

    Raises
    ------
    InputError
        As said.
    """
    for name in plan.architectures:
        least_px = architecture_named(name).min_px
        if plan.conditions.shards is None and plan.conditions.patch_px < least_px:
            raise InputError(
                f"{name} takes no patches of {plan.conditions.patch_px} px", remedy=f"use --patch-px {least_px} or more"
            )
    most, least = max(ranks for ranks, _ in plan.shapes), min(plan.rows)
    if least < most:
        raise InputError(f"{least} patches cannot feed {most} ranks", remedy="use more --rows or fewer --ranks")
