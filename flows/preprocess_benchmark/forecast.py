"""The model of a preprocessing benchmark, and what it says of the paper's slides and nodes (section 4.1)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from flows.preprocess_benchmark.cell import Trial
from flows.preprocess_benchmark.plan import Outlook
from flows.preprocess_benchmark.scaling import Costs, Machine, Prediction, Work, predict, soonest
from flows.preprocess_benchmark.scaling_fit import Observation, fit_costs
from tasks.patches.effort import Effort
from tasks.patches.slide_masks import MOST_MASK_PX

NODES = (100, 1000, 8000)
PATCHES = 43_000_000
# Section 3.1: 3,030.5 GB of slides of about 4 GB each. Table 4: 100,000 x 100,000 px, whose masks are the largest.
SLIDE_MB, SLIDES = 4000.0, 758
MASK_MPX = MOST_MASK_PX / 1e6
# Section 4.1: about 50,000 random patches (of 5 slides); section 5: nearly 1 TB of 5 slides, of patches of
# 7 TB / 43 million = 163 kB.
RANDOM_PATCHES, DENSE_PATCHES = 10_000.0, 1_230_000.0


@dataclass(frozen=True)
class PaperRow:
    """A row of Table 4, measured at AGH in Krakow.

    Attributes
    ----------
    parallel, seconds
        As the paper prints them; the seconds stand under "CPU Time [s]".
    node_workers
        Workers a node: one, or one for each of its 10 cores.
    """

    slides: int
    nodes: int
    sampling: str
    parallel: str
    seconds: int
    node_workers: int


TABLE_FOUR = (
    PaperRow(1, 1, "random", "none", 292, 1),
    PaperRow(5, 5, "random", "1 CPU/WSI", 260, 1),
    PaperRow(1, 1, "dense", "none", 18_400, 1),
    PaperRow(1, 100, "dense", "1 000 CPUs/WSI", 3000, 10),
    PaperRow(5, 500, "dense", "5 000 CPUs/WSI", 7530, 10),
    PaperRow(5, 1000, "dense", "10 000 CPUs/WSI", 3780, 10),
)


@dataclass(frozen=True)
class Model:
    """What was found for one kind of patches.

    Attributes
    ----------
    patch_mb
        What a patch takes in a shard (10^6 bytes).
    """

    kind: str
    costs: Costs
    patch_mb: float
    observations: tuple[Observation, ...]


@dataclass(frozen=True)
class Forecast:
    """One question to the model and its answer; `machine` is all there is, of which some nodes may stay idle."""

    kind: str
    work: Work
    machine: Machine
    prediction: Prediction


def measured_models(trials: Iterable[Trial]) -> dict[str, Model]:
    """Fit a model to each kind of patches that was measured, by its name; warm-ups and failures do not count.

    Their order is always the same: random ones before dense ones, raw pixels first.
    """
    ranked = sorted(trials, key=lambda trial: trial.cell.rank)
    found = [observed(trial, trial.effort) for trial in ranked if trial.repeat > 0 and trial.effort is not None]
    models = {}
    for kind in dict.fromkeys(one.kind for one in found):
        own = tuple(one for one in found if one.kind == kind)
        patches = sum(one.work.slides * one.work.slide_patches for one in own)
        megabytes = sum(one.work.slides * one.work.slide_patches * one.work.patch_mb for one in own)
        models[kind] = Model(kind, fit_costs(found, kind), megabytes / patches if patches else 0.0, own)
    return models


def observed(trial: Trial, effort: Effort) -> Observation:
    """Give the numbers of a trial that the model is fitted to."""
    course = trial.course
    assert course is not None  # noqa: S101  # it has one where it has an effort
    slides = trial.cell.slides
    work = Work(
        slides=slides,
        slide_mb=trial.slide_bytes / 1e6 / slides,
        mask_mpx=trial.mask_px / 1e6 / slides,
        slide_patches=trial.patches / slides,
        patch_mb=trial.patch_bytes / 1e6 / max(1, trial.patches),
        bands=round(trial.bands),
        largest=max(trial.patches_by_slide) * slides / max(1, trial.patches) if trial.patches else 1.0,
    )
    in_phases_s = sum(spent.cpu_s for spent in effort.phases.values())
    in_processes_s = sum(worker.cpu_s for worker in effort.workers.values())
    return Observation(
        kind=trial.cell.kind,
        work=work,
        machine=Machine(nodes=trial.cell.workers, cores=effort.cores),
        wall_s=course.queued_s + course.startup_s + course.slides_s + course.manifest_s,
        queued_s=course.queued_s,
        startup_s=course.startup_s,
        manifest_s=course.manifest_s,
        read_wall_s=effort.of("read").wall_s,
        read_mb=(effort.read_bytes - trial.patch_bytes) / 1e6,
        masks_cpu_s=effort.of("masks").cpu_s,
        pictures_cpu_s=effort.of("pictures").cpu_s,
        cut_cpu_s=effort.of("cut").cpu_s + effort.of("digest").cpu_s,
        other_cpu_s=max(0.0, effort.whole.cpu_s - in_phases_s),
        start_cpu_s=max(0.0, in_processes_s - effort.whole.cpu_s),
        coordinator_cpu_s=course.coordinator_cpu_s,
        files=trial.files,
    )


def cohort_forecasts(model: Model, outlook: Outlook, nodes: Sequence[int] = NODES) -> list[Forecast]:
    """Ask for the paper's 43 million patches on so many nodes, with the file system of the outlook and with no limit.

    Each time in the way that is soonest done: how many bands a slide is cut in, how many of the nodes work.
    """
    work = Work(SLIDES, SLIDE_MB, MASK_MPX, PATCHES / SLIDES, model.patch_mb)
    asked = []
    for count in nodes:
        machine = _machine(outlook, count, outlook.node_workers)
        unlimited = replace(machine, read_mb_per_s=None, write_mb_per_s=None)
        asked += [Forecast(model.kind, *_soonest(model, work, there)) for there in (machine, unlimited)]
    return asked


def table_four_forecast(row: PaperRow, model: Model, outlook: Outlook) -> Forecast:
    """Ask for a row of the paper's Table 4."""
    patches = RANDOM_PATCHES if row.sampling == "random" else DENSE_PATCHES
    work = Work(row.slides, SLIDE_MB, MASK_MPX, patches, model.patch_mb)
    machine = _machine(outlook, row.nodes, row.node_workers)
    if row.sampling == "random":
        return Forecast(model.kind, work, machine, predict(model.costs, work, machine))
    return Forecast(model.kind, *_soonest(model, work, machine))


def _soonest(model: Model, work: Work, machine: Machine) -> tuple[Work, Machine, Prediction]:
    way, made = soonest(model.costs, work, machine)
    return way, machine, made


def _machine(outlook: Outlook, nodes: int, node_workers: int) -> Machine:
    return Machine(nodes, node_workers, None, outlook.read_mb_per_s, outlook.write_mb_per_s)
