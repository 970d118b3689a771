"""How long Layer 1 takes on so many nodes (paper section 4.1, Table 4 and Figure 7): a model with few parameters.

The time from the submission to the manifest is

    open + submit · tasks + start + warm + work + manifest + file · files

and the work takes as long as the tightest of its limits: the workers, who do the tasks in rounds; the largest slide;
the coordinator, which handles one worker and one result after the other; what the shared file system reads, and what
it writes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

LIMITS = ("workers", "largest slide", "coordinator", "shared reading", "shared writing")
"""Of the work; each alone says how long it takes at least."""
_MOST_BANDS = 1000


@dataclass(frozen=True)
class Work:
    """What is to be cut.

    Attributes
    ----------
    slide_mb
        Size of a slide file (10^6 bytes); mean.
    mask_mpx
        Size of its masks (10^6 pixels); mean.
    slide_patches
        Patches of a slide; mean.
    patch_mb
        What a patch takes in a shard (10^6 bytes).
    bands
        Parts of a slide that are cut at the same time; 1: a slide is one task.
    largest
        The largest slide over the mean, in patches.
    """

    slides: int
    slide_mb: float
    mask_mpx: float
    slide_patches: float
    patch_mb: float
    bands: int = 1
    largest: float = 1.0

    @property
    def tasks(self) -> int:
        """A slide each; or its masks, its random patches and its bands."""
        return self.slides * (1 if self.bands == 1 else self.bands + 2)

    @property
    def parallel_tasks(self) -> int:
        """How many can run at the same time."""
        return self.slides * (1 if self.bands == 1 else self.bands + 1)

    @property
    def files(self) -> int:
        """Files in the manifest: shards of random patches and of bands, two pictures."""
        return self.slides * (self.bands + 3)


@dataclass(frozen=True)
class Machine:
    """What works.

    Attributes
    ----------
    workers_a_node
        Each does one task at a time.
    cores
        That all workers share; None: each has one of its own.
    read_mb_per_s, write_mb_per_s
        What the shared file system gives to all nodes together; None: no limit.
    """

    nodes: int
    workers_a_node: int = 1
    cores: int | None = None
    read_mb_per_s: float | None = None
    write_mb_per_s: float | None = None

    @property
    def workers(self) -> int:
        """On all nodes."""
        return self.nodes * self.workers_a_node


@dataclass(frozen=True)
class Costs:
    """Parameters of the model; the fit finds them, none is negative.

    Attributes
    ----------
    open_s
        Wall seconds until the cluster takes tasks.
    submit_s_per_task
        Wall seconds of handing a task over, one after the other.
    start_s
        Wall seconds from there until a worker is ready.
    warm_s
        Wall seconds that pass with a worker, once, and that its work does not explain: imports, round trips.
    worker_start_cpu_s
        Processor seconds of a worker's start; where workers share cores, they take these from each other.
    read_s_per_mb
        Wall seconds in which one worker reads a slide and takes its digest, a MB (10^6 bytes).
    reads_a_byte
        How often each byte of a slide is read in all.
    masks_s_per_mpx
        Processor seconds of annotation and masks, a megapixel of these.
    pictures_s
        Processor seconds of the thumbnails of a slide.
    cut_s_per_patch
        Processor seconds of decoding, looking at and writing a patch, and of its share of the shard's digest.
    task_s
        Processor seconds of a worker beside all this, a task: opening the slide, telling the server.
    handle_s_per_task, join_s_per_worker
        Processor seconds of the coordinator, a task and a worker: its job, its connection.
    manifest_s, manifest_s_per_file
        Wall seconds of the manifest.
    """

    open_s: float
    submit_s_per_task: float
    start_s: float
    warm_s: float
    worker_start_cpu_s: float
    read_s_per_mb: float
    reads_a_byte: float
    masks_s_per_mpx: float
    pictures_s: float
    cut_s_per_patch: float
    task_s: float
    handle_s_per_task: float
    join_s_per_worker: float
    manifest_s: float
    manifest_s_per_file: float


@dataclass(frozen=True)
class Prediction:
    """Wall seconds, in the order in which they pass.

    Attributes
    ----------
    work_s
        The largest of `limits_s`.
    limits_s
        By the names in `LIMITS`.
    workers
        That have something to do.
    """

    start_s: float
    work_s: float
    manifest_s: float
    limits_s: dict[str, float]
    workers: int
    tasks: int

    @property
    def seconds(self) -> float:
        """From the submission to the manifest."""
        return self.start_s + self.work_s + self.manifest_s

    @property
    def bound_by(self) -> str:
        """The tightest limit."""
        return max(self.limits_s, key=lambda name: self.limits_s[name])


def predict(costs: Costs, work: Work, machine: Machine) -> Prediction:
    """Say how long some work takes on a machine."""
    workers = min(machine.workers, work.parallel_tasks)
    cores = machine.cores or workers
    crowded = max(0.0, workers / cores - 1)
    limits_s = (
        _workers_s(costs, work, workers, cores) + crowded * costs.worker_start_cpu_s,
        _largest_s(costs, work),
        costs.handle_s_per_task * work.tasks + costs.join_s_per_worker * workers,
        _shared_s(work.slides * work.slide_mb * costs.reads_a_byte, machine.read_mb_per_s),
        _shared_s(work.slides * work.slide_patches * work.patch_mb, machine.write_mb_per_s),
    )
    return Prediction(
        start_s=costs.open_s + costs.submit_s_per_task * work.tasks + costs.start_s + costs.warm_s,
        work_s=max(limits_s),
        manifest_s=costs.manifest_s + costs.manifest_s_per_file * work.files,
        limits_s=dict(zip(LIMITS, limits_s, strict=True)),
        workers=workers,
        tasks=work.tasks,
    )


def soonest(costs: Costs, work: Work, machine: Machine) -> tuple[Work, Prediction]:
    """Choose how many bands a slide is cut in, and how many of the nodes are used; of several ways the smallest."""
    ways = [
        (replace(work, bands=bands), replace(machine, nodes=nodes))
        for bands in _steps(_MOST_BANDS)
        for nodes in _steps(machine.nodes)
    ]
    made = [(way, predict(costs, way, there)) for way, there in ways]
    return min(made, key=lambda one: (one[1].seconds, one[0].bands, one[1].workers))


def worker_s(costs: Costs, work: Work) -> float:
    """Give the seconds of all workers together."""
    return work.slides * (_once_s(costs, work) + work.bands * _band_s(costs, work)) + (
        work.slides * 2 * costs.task_s if work.bands > 1 else 0.0
    )


def _workers_s(costs: Costs, work: Work, workers: int, cores: int) -> float:
    """Time of all tasks in rounds; never less than the sum of the work over all who do it."""
    once_s, band_s = _once_s(costs, work), _band_s(costs, work)
    if work.bands == 1:
        rounds_s = _rounds_s(work.slides, workers, cores, once_s + band_s)
    else:
        first_s = _rounds_s(work.slides, min(workers, work.slides), cores, once_s + costs.task_s)
        rounds_s = first_s + _rounds_s(work.slides * work.bands, workers, cores, band_s)
        # Bands of the first slides fill the workers while the masks of the last ones are made.
        rounds_s = min(rounds_s, worker_s(costs, work) / min(workers, cores) + once_s + costs.task_s + band_s)
    return max(rounds_s, worker_s(costs, work) / min(workers, cores))


def _rounds_s(tasks: int, workers: int, cores: int, task_s: float) -> float:
    """Time of equal tasks: whole rounds, then one of the rest; more workers than cores share these."""
    whole, rest = divmod(tasks, workers)
    return task_s * (whole * max(1.0, workers / cores) + (max(1.0, rest / cores) if rest else 0.0))


def _largest_s(costs: Costs, work: Work) -> float:
    """Time of the largest slide: alone with all its bands at once, or in one piece."""
    once_s, band_s = _once_s(costs, work), _band_s(costs, work)
    if work.bands == 1:
        return work.largest * (once_s + band_s)
    return work.largest * once_s + costs.task_s + band_s


def _once_s(costs: Costs, work: Work) -> float:
    """Give what a slide takes before its first patch is cut."""
    return costs.read_s_per_mb * work.slide_mb + costs.masks_s_per_mpx * work.mask_mpx + costs.pictures_s


def _band_s(costs: Costs, work: Work) -> float:
    return costs.cut_s_per_patch * work.slide_patches / work.bands + costs.task_s


def _steps(most: int) -> list[int]:
    """Give numbers from 1 to `most`, each a fourth root of two more than the one before."""
    steps = (round(2 ** (quarter / 4)) for quarter in range(4 * most.bit_length()))
    return sorted({most, *(step for step in steps if step < most)})


def _shared_s(megabytes: float, limit_mb_per_s: float | None) -> float:
    return 0.0 if limit_mb_per_s is None or math.isinf(limit_mb_per_s) else megabytes / limit_mb_per_s
