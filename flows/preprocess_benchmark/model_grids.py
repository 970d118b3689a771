"""The tables of a preprocessing benchmark that come from its model: fitted, predicted, assumed."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from statistics import median

from flows.preprocess_benchmark.cell import Trial
from flows.preprocess_benchmark.forecast import (
    DENSE_PATCHES,
    MASK_MPX,
    PATCHES,
    RANDOM_PATCHES,
    SLIDE_MB,
    SLIDES,
    TABLE_FOUR,
    Forecast,
    Model,
    cohort_forecasts,
    table_four_forecast,
)
from flows.preprocess_benchmark.grids import CELL, measured_cells, median_of, named
from flows.preprocess_benchmark.plan import Outlook
from flows.preprocess_benchmark.scaling import LIMITS
from flows.preprocess_benchmark.scaling_fit import Observation, residual_s
from tasks.report.benchmark_data import Grid
from tasks.report.formats import count, duration, quantity


def paper_grid(models: dict[str, Model], outlook: Outlook) -> Grid:
    """Put the paper's Table 4 beside what the model of this site says of the same slides and nodes."""
    rows = []
    for row in TABLE_FOUR:
        known = (str(row.slides), count(row.nodes), row.sampling, row.parallel, count(row.seconds))
        model = next((one for one in models.values() if one.kind.startswith(row.sampling)), None)
        if model is None:
            rows.append((*known, "-", "not measured", "-", "-"))
            continue
        asked = table_four_forecast(row, model, outlook)
        rows.append(
            (*known, model.kind, quantity(asked.prediction.seconds), count(asked.prediction.workers), _bound(asked))
        )
    return Grid(
        key="preprocess-benchmark-paper",
        title="The paper's Table 4 (its machine, not this one)",
        lead="Left: slides of 100,000 × 100,000 px at AGH in Krakow, from the paper, under its heading “CPU Time [s]”. "
        "Right: no measurement, but what the model of this site says of such slides on so many nodes.",
        headings=(
            *("WSIs", "nodes", "sampling", "parallelization type", "paper: s (AGH)"),
            *("model of", "predicted s", "workers used", "bound by"),
        ),
        rows=tuple(rows),
    )


def prediction_grid(models: dict[str, Model], outlook: Outlook) -> Grid:
    """Say how long 43 million patches take."""
    limit = f"{outlook.read_mb_per_s:,.0f} and {outlook.write_mb_per_s:,.0f} MB/s"
    rows = []
    for model in models.values():
        for asked in cohort_forecasts(model, outlook) if model.kind.startswith("dense") else ():
            made = asked.prediction
            rows.append(
                (
                    model.kind,
                    count(asked.machine.nodes),
                    "no limit" if asked.machine.write_mb_per_s is None else limit,
                    "a slide a task" if asked.work.bands == 1 else f"{asked.work.bands} bands a slide",
                    count(made.tasks),
                    count(made.workers),
                    quantity(PATCHES * model.patch_mb / 1e6),
                    quantity(made.start_s),
                    *map(quantity, made.limits_s.values()),
                    quantity(made.manifest_s),
                    duration(made.seconds),
                    _bound(asked),
                )
            )
    return Grid(
        key="preprocess-prediction",
        title="43 million patches (the paper's Figure 7), predicted",
        lead=f"{SLIDES} slides of {SLIDE_MB / 1000:g} GB. The paper took 1,000 nodes and says of 8,000: approximately "
        "1 hour. Of all numbers of bands a slide and of nodes that work, those that are soonest done. The work takes "
        "as long as its tightest limit. What the shared file system reads and writes is assumed, not measured: where "
        "it is the limit, the time is that assumption's; the rows with no limit say what all else would take.",
        headings=(
            *("patches", "nodes", "shared file system", "tasks are", "tasks", "workers used", "TB written"),
            "start s",
            *(f"{limit} s" for limit in LIMITS),
            *("manifest s", "together", "bound by"),
        ),
        rows=tuple(rows),
    )


def costs_grid(models: dict[str, Model]) -> Grid:
    """Show the parameters of the model."""
    names = [field.name for field in dataclasses.fields(next(iter(models.values())).costs)] if models else []
    rows = [(name, *(f"{getattr(model.costs, name):.3g}" for model in models.values())) for name in names]
    return Grid(
        key="preprocess-benchmark-parameters",
        title="The fitted parameters",
        lead="Least squares with parameters that are not negative, each in the measurements of what it causes. "
        "What a patch costs is that of its kind; all else is common. The file scaling.py says what each is.",
        headings=("parameter", *models),
        rows=tuple(rows),
    )


def residual_grid(models: dict[str, Model], trials: Sequence[Trial]) -> Grid:
    """Show how far the model is from what it was fitted to."""
    rows = []
    for cell, found in measured_cells(trials).items():
        model = models[cell.kind]
        own = [one for one in model.observations if (one.work.slides, one.machine.nodes) == (cell.slides, cell.workers)]
        measured = median_of(found, lambda one: one.seconds)
        off_s = median(residual_s(model.costs, one) for one in own)
        told = (
            quantity(measured),
            quantity(max(0.0, measured + off_s)),
            f"{off_s:+.2f}",
            f"{100 * off_s / measured:+.0f} %",
        )
        rows.append((*named(cell), *told))
    return Grid(
        key="preprocess-benchmark-residuals",
        title="The model against the measurements",
        lead="Wall seconds, medians. The model knows processor seconds and waits; what else ran on the machine, "
        "it does not know: on a busy one it says less than was measured.",
        headings=(*CELL, "measured s", "model s", "difference s", "of it"),
        rows=tuple(rows),
    )


def assumptions_grid(models: dict[str, Model], outlook: Outlook) -> Grid:
    """List what the predictions take for granted."""
    observations = [one for model in models.values() for one in model.observations]
    cores = max((one.machine.cores or 0 for one in observations), default=0)
    reads, writes = outlook.read_mb_per_s, outlook.write_mb_per_s
    slide = f"{SLIDE_MB / 1000:g} GB, with the largest masks ({MASK_MPX:.1f} Mpx)"
    rows = (
        ("cores here", f"all workers together had {cores}; more workers than that share them"),
        ("cores there", f"{outlook.node_workers} workers a node, each with a core of its own, as fast as one here"),
        (
            "shared file system",
            f"reads {reads:,.0f} MB/s and writes {writes:,.0f} MB/s for all nodes together, both at the same time "
            "(--shared-read-mb-per-s, --shared-write-mb-per-s); nothing of it was measured. The network of a node is "
            "no limit",
        ),
        (
            "reading here",
            "slides were read before, by the warm-up: mostly from the page cache. A worker reads as fast there, until "
            "the limit of the file system",
        ),
        *_reach(observations),
        ("start", "the queue of the batch system takes as long as here, and all workers are ready together"),
        ("tasks", "slides are equal, and so are the bands of a slide, whose masks come first"),
        ("lower bound", "the largest slide: alone if it is one task, else its masks and one band"),
        (
            "coordinator",
            "hands tasks over one after the other, and needs for each result and each worker what it needed here: "
            "nobody has seen it with thousands of workers. The Prefect server is no limit",
        ),
        ("masks", "take time by their own size; thumbnails of all slides take as long as those measured"),
        ("manifest", "one process writes it after the last shard"),
        ("failures", "no node fails, no slide is tried again"),
        ("43 million patches", f"{SLIDES} slides of {slide} (the paper: 3,030.5 GB), {PATCHES / SLIDES:,.0f} of each"),
        (
            "the slides of Table 4",
            f"{slide}; {RANDOM_PATCHES:,.0f} random patches (the paper: about 50,000 of 5 slides) or "
            f"{DENSE_PATCHES:,.0f} dense ones (nearly 1 TB of 5 slides, 163 kB each)",
        ),
        ("the paper's own count", "43 million patches in section 4.1, 34 million in section 5, both times 7 TB"),
    )
    return Grid(
        key="preprocess-benchmark-assumptions",
        title="What is assumed",
        lead="Change one of these, and the predictions change.",
        headings=("of", "assumption"),
        rows=rows,
    )


def _reach(observations: Sequence[Observation]) -> Iterable[tuple[str, str]]:
    """Say how far from the measurements the predictions are."""
    if not observations:
        return
    works = [one.work for one in observations]
    slide_mb, mask_mpx = (median(getattr(work, name) for work in works) for name in ("slide_mb", "mask_mpx"))
    most_workers, most_tasks = (max(one.machine.workers for one in observations), max(work.tasks for work in works))
    yield (
        "straight lines",
        f"measured with slides of {slide_mb:,.3g} MB, masks of {mask_mpx:.2g} Mpx, at most {most_workers} workers and "
        f"{most_tasks} tasks; all beyond is on straight lines through that",
    )
    drawn = [one.work.slide_patches / one.work.slide_mb for one in observations if one.kind.startswith("random")]
    if drawn:
        yield (
            "random patches",
            f"each costs what it cost here, where {median(drawn):,.3g} lay in a MB of slide; in the slides of Table 4 "
            f"{RANDOM_PATCHES / SLIDE_MB:.3g} do. Where they lie thinner they share fewer tiles, and each costs more",
        )


def _bound(asked: Forecast) -> str:
    made = asked.prediction
    return "start" if made.start_s > made.work_s else made.bound_by
