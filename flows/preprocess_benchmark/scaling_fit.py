"""Finds the parameters of `flows.preprocess_benchmark.scaling` in measurements, each in what it causes itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from flows.preprocess_benchmark.scaling import Costs, Machine, Work, predict
from tasks.least_squares import nonnegative_least_squares


@dataclass(frozen=True)
class Observation:
    """One measured run of Layer 1.

    Attributes
    ----------
    kind
        Sampling and encoding: what a patch costs depends on it.
    wall_s
        From the submission to the manifest, without the closing of the cluster.
    queued_s, startup_s, manifest_s
        Of these: until all tasks are in the queue; from there to the first worker; of the manifest.
    read_wall_s
        Sum over all workers of the wall seconds for the slides' digests.
    read_mb
        What all workers read (10^6 bytes), without the shards, of which they read each once for its digest.
    masks_cpu_s, pictures_cpu_s, cut_cpu_s, other_cpu_s, start_cpu_s
        Processor seconds of all workers: masks; thumbnails; patches and their digests; the rest of the tasks; what
        their processes used beside the tasks, to start and to talk.
    coordinator_cpu_s
        Processor seconds of the coordinator.
    """

    kind: str
    work: Work
    machine: Machine
    wall_s: float
    queued_s: float
    startup_s: float
    manifest_s: float
    read_wall_s: float
    read_mb: float
    masks_cpu_s: float
    pictures_cpu_s: float
    cut_cpu_s: float
    other_cpu_s: float
    start_cpu_s: float
    coordinator_cpu_s: float
    files: int

    @property
    def slides_s(self) -> float:
        """From the first worker to the last shard."""
        return self.wall_s - self.queued_s - self.startup_s - self.manifest_s

    @property
    def has_cores_enough(self) -> bool:
        """Whether no worker waited for a core that another one had."""
        return self.machine.cores is None or self.machine.workers <= self.machine.cores


def fit_costs(observations: Sequence[Observation], kind: str) -> Costs:
    """Fit the parameters by least squares, none of them negative.

    What a patch costs is taken from the observations of `kind`, all else from all of them. Processor seconds are
    taken where the processor is what is waited for, so that other programs on the machine change little; the reading
    of slides counts in wall seconds, of runs in which each worker had a core.

    Raises
    ------
    ValueError
        There is no observation of `kind`.
    """
    of_kind = [one for one in observations if one.kind == kind]
    if not of_kind:
        raise ValueError(f"nothing was measured of {kind}")
    uncrowded = [one for one in observations if one.has_cores_enough] or observations
    open_s, submit_s = _fit(observations, lambda one: (1, one.work.tasks), lambda one: one.queued_s)
    (start_s,) = _fit(observations, lambda one: (1,), lambda one: one.startup_s)
    started = _fit(observations, lambda one: (_working(one), one.work.tasks), lambda one: one.start_cpu_s)
    (read_s_per_mb,) = _fit(uncrowded, lambda one: (_slides_mb(one),), lambda one: one.read_wall_s)
    # Where workers and slides are always as many, all that was read counts for the slides.
    reads_a_byte, _ = _fit(observations, lambda one: (_slides_mb(one), _working(one)), lambda one: one.read_mb)
    (masks_s_per_mpx,) = _fit(
        observations, lambda one: (one.work.slides * one.work.mask_mpx,), lambda one: one.masks_cpu_s
    )
    (pictures_s,) = _fit(observations, lambda one: (one.work.slides,), lambda one: one.pictures_cpu_s)
    (cut_s_per_patch,) = _fit(
        of_kind, lambda one: (one.work.slides * one.work.slide_patches,), lambda one: one.cut_cpu_s
    )
    (task_s,) = _fit(observations, lambda one: (one.work.tasks,), lambda one: one.other_cpu_s)
    _, handle_s, join_s = _fit(
        observations, lambda one: (1, one.work.tasks, _working(one)), lambda one: one.coordinator_cpu_s
    )
    manifest_s, file_s = _fit(observations, lambda one: (1, one.files), lambda one: one.manifest_s)
    costs = Costs(
        open_s=open_s,
        submit_s_per_task=submit_s,
        start_s=start_s,
        warm_s=0.0,
        worker_start_cpu_s=started[0],
        read_s_per_mb=read_s_per_mb,
        reads_a_byte=reads_a_byte,
        masks_s_per_mpx=masks_s_per_mpx,
        pictures_s=pictures_s,
        cut_s_per_patch=cut_s_per_patch,
        task_s=task_s + started[1],
        handle_s_per_task=handle_s,
        join_s_per_worker=join_s,
        manifest_s=manifest_s,
        manifest_s_per_file=file_s,
    )
    (warm_s,) = _fit(
        [one for one in of_kind if one.has_cores_enough] or of_kind,
        lambda one: (1,),
        lambda one: one.slides_s - predict(costs, one.work, one.machine).work_s,
    )
    return replace(costs, warm_s=warm_s)


def residual_s(costs: Costs, observation: Observation) -> float:
    """Give by how much the model says more than was measured, in wall seconds."""
    return predict(costs, observation.work, observation.machine).seconds - observation.wall_s


def _fit(
    observations: Sequence[Observation],
    features: Callable[[Observation], tuple[float, ...]],
    seconds: Callable[[Observation], float],
) -> list[float]:
    design = np.array([features(one) for one in observations], float)
    found: list[float] = nonnegative_least_squares(design, np.array([seconds(one) for one in observations])).tolist()
    return found


def _working(observation: Observation) -> int:
    return min(observation.machine.workers, observation.work.parallel_tasks)


def _slides_mb(observation: Observation) -> float:
    return observation.work.slides * observation.work.slide_mb
