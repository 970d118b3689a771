from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flows.preprocess_benchmark.scaling import Costs, Machine, Work, predict, soonest, worker_s
from flows.preprocess_benchmark.scaling_fit import Observation, fit_costs, residual_s

KNOWN = Costs(
    open_s=1.5,
    submit_s_per_task=0.03,
    start_s=4.0,
    warm_s=1.0,
    worker_start_cpu_s=2.0,
    read_s_per_mb=0.002,
    reads_a_byte=1.7,
    masks_s_per_mpx=0.4,
    pictures_s=0.15,
    cut_s_per_patch=3e-4,
    task_s=0.2,
    handle_s_per_task=0.05,
    join_s_per_worker=0.02,
    manifest_s=0.1,
    manifest_s_per_file=0.001,
)
NOTHING = Costs(**{field.name: 0.0 for field in fields(Costs)})
SLIDE = Work(slides=1, slide_mb=100, mask_mpx=3, slide_patches=10_000, patch_mb=0.15)


def observed(work: Work, machine: Machine, kind: str = "dense raw", noise: float = 0.0, seed: int = 0) -> Observation:
    """Give what would be measured where the known costs hold."""
    costs, prediction = KNOWN, predict(KNOWN, work, machine)
    factor = 1 + noise * np.random.default_rng(seed).standard_normal(10)
    working = min(machine.workers, work.parallel_tasks)
    return Observation(
        kind=kind,
        work=work,
        machine=machine,
        wall_s=prediction.seconds,
        queued_s=factor[0] * (costs.open_s + costs.submit_s_per_task * work.tasks),
        startup_s=factor[1] * costs.start_s,
        manifest_s=factor[2] * (costs.manifest_s + costs.manifest_s_per_file * work.files),
        read_wall_s=factor[3] * costs.read_s_per_mb * work.slides * work.slide_mb,
        read_mb=factor[4] * (7 * working + costs.reads_a_byte * work.slides * work.slide_mb),
        masks_cpu_s=factor[5] * costs.masks_s_per_mpx * work.slides * work.mask_mpx,
        cut_cpu_s=factor[6] * costs.cut_s_per_patch * work.slides * work.slide_patches,
        pictures_cpu_s=factor[9] * costs.pictures_s * work.slides,
        other_cpu_s=factor[7] * costs.task_s * work.tasks / 4,
        start_cpu_s=factor[8] * (costs.worker_start_cpu_s * working + 3 * costs.task_s * work.tasks / 4),
        coordinator_cpu_s=3.0 + costs.handle_s_per_task * work.tasks + costs.join_s_per_worker * working,
        files=work.files,
    )


def matrix(noise: float = 0.0) -> list[Observation]:
    cells = [(slides, workers, bands) for slides in (1, 2, 4) for workers in (1, 2, 3) for bands in (1, 4)]
    return [
        observed(replace(SLIDE, slides=slides, bands=bands), Machine(nodes=workers, cores=2), noise=noise, seed=seed)
        for seed, (slides, workers, bands) in enumerate(cells)
    ]


def test_known_parameters_are_found_again() -> None:
    found = fit_costs(matrix(), "dense raw")
    for field in fields(Costs):
        assert getattr(found, field.name) == pytest.approx(getattr(KNOWN, field.name), rel=1e-6), field.name
    assert [residual_s(found, one) for one in matrix()] == pytest.approx([0.0] * 18, abs=1e-5)


def test_noise_moves_them_a_little_and_makes_none_negative() -> None:
    found = fit_costs(matrix(noise=0.05), "dense raw")
    for name in ("start_s", "read_s_per_mb", "masks_s_per_mpx", "cut_s_per_patch", "task_s", "worker_start_cpu_s"):
        assert getattr(found, name) == pytest.approx(getattr(KNOWN, name), rel=0.1), name
    assert all(getattr(found, field.name) >= 0 for field in fields(Costs))


MEASURED = [field.name for field in fields(Observation) if field.type == "float"]


@given(st.lists(st.fixed_dictionaries({name: st.floats(-10, 10) for name in MEASURED}), min_size=1, max_size=6))
def test_nonsense_in_the_measurements_gives_no_negative_cost(rows: list[dict[str, Any]]) -> None:
    nonsense = [replace(matrix()[0], **row) for row in rows]
    costs = fit_costs(nonsense, "dense raw")
    assert all(getattr(costs, field.name) >= 0 for field in fields(Costs))
    assert predict(costs, SLIDE, Machine(nodes=8000)).seconds >= 0


def test_a_patch_costs_what_its_own_kind_costs() -> None:
    tiles = [replace(one, kind="dense tiles", cut_cpu_s=one.cut_cpu_s / 30) for one in matrix()]
    both = matrix() + tiles
    assert fit_costs(both, "dense tiles").cut_s_per_patch == pytest.approx(KNOWN.cut_s_per_patch / 30)
    assert fit_costs(both, "dense raw").cut_s_per_patch == pytest.approx(KNOWN.cut_s_per_patch)
    with pytest.raises(ValueError, match="nothing was measured of random raw"):
        fit_costs(both, "random raw")


def test_reading_is_taken_from_runs_whose_workers_had_a_core_each() -> None:
    slow = [replace(one, read_wall_s=5 * one.read_wall_s) if not one.has_cores_enough else one for one in matrix()]
    assert fit_costs(slow, "dense raw").read_s_per_mb == pytest.approx(KNOWN.read_s_per_mb)


def test_slides_go_in_rounds_and_the_sum_of_the_work_is_a_limit() -> None:
    costs = replace(NOTHING, task_s=10.0)
    work = replace(SLIDE, slides=4)
    rounds = {nodes: predict(costs, work, Machine(nodes=nodes)).work_s for nodes in (1, 2, 3, 4, 100)}
    assert rounds == {1: 40, 2: 20, 3: 20, 4: 10, 100: 10}
    # Three workers on two cores: a round of three takes 15 s, the last slide 10 s.
    assert predict(costs, work, Machine(nodes=3, cores=2)).work_s == 25
    assert predict(costs, work, Machine(nodes=4, cores=2)).work_s == 20


def test_bands_share_a_slide_and_its_masks_come_first() -> None:
    costs = replace(NOTHING, masks_s_per_mpx=1.0, cut_s_per_patch=1.0)
    work = Work(slides=1, slide_mb=0, mask_mpx=6, slide_patches=60, patch_mb=0, bands=6)
    seconds = {nodes: predict(costs, work, Machine(nodes=nodes)).work_s for nodes in (1, 2, 3, 6, 100)}
    assert seconds == {1: 66, 2: 36, 3: 26, 6: 16, 100: 16}
    assert predict(costs, replace(work, bands=1), Machine(nodes=100)).work_s == 66


def test_the_tightest_limit_is_named() -> None:
    many = replace(SLIDE, slides=1000, bands=10)
    machine = Machine(nodes=8000, read_mb_per_s=1e4, write_mb_per_s=1e4)

    def bound(costs: Costs, machine: Machine = machine, work: Work = many) -> str:
        return predict(costs, work, machine).bound_by

    assert bound(replace(NOTHING, handle_s_per_task=1.0)) == "coordinator"
    assert bound(replace(NOTHING, reads_a_byte=100.0)) == "shared reading"
    assert bound(NOTHING) == "shared writing"
    assert bound(KNOWN, Machine(nodes=1)) == "workers"
    assert bound(KNOWN, Machine(nodes=8000), replace(SLIDE, slides=10, largest=3.0)) == "largest slide"


works = st.builds(
    Work,
    slides=st.integers(1, 2000),
    slide_mb=st.floats(0, 5000),
    mask_mpx=st.floats(0, 5),
    slide_patches=st.floats(0, 1e6),
    patch_mb=st.floats(0, 0.2),
    bands=st.integers(1, 50),
    largest=st.floats(1, 5),
)
costs_ = st.builds(Costs, **{field.name: st.floats(0, 10) for field in fields(Costs)})
nodes_ = st.integers(1, 10_000)
EXACT = 1 + 1e-9


@given(costs_, works, nodes_, nodes_)
def test_more_nodes_are_slower_by_what_their_workers_cost_the_coordinator(
    costs: Costs, work: Work, one: int, other: int
) -> None:
    few, many = (predict(costs, work, Machine(nodes, read_mb_per_s=1e3)) for nodes in sorted((one, other)))
    assert many.seconds <= (few.seconds + costs.join_s_per_worker * (many.workers - few.workers)) * EXACT
    free = replace(costs, join_s_per_worker=0.0)
    few, many = (predict(free, work, Machine(nodes, read_mb_per_s=1e3)) for nodes in sorted((one, other)))
    assert many.seconds <= few.seconds * EXACT


@settings(max_examples=20, deadline=None)
@given(costs_, works, nodes_)
def test_the_soonest_way_is_no_slower_than_all_nodes_with_a_slide_a_task(costs: Costs, work: Work, nodes: int) -> None:
    machine = Machine(nodes, workers_a_node=10, write_mb_per_s=1e3)
    way, made = soonest(costs, work, machine)
    assert replace(way, bands=work.bands) == work
    assert made.workers <= machine.workers
    assert made.seconds <= predict(costs, replace(work, bands=1), machine).seconds


def test_nodes_that_only_cost_are_not_used() -> None:
    costs = replace(NOTHING, cut_s_per_patch=1e-3, join_s_per_worker=1.0)
    work = replace(SLIDE, slides=1000)
    # 10,000 s of work, and a second for each worker: 100 workers need 100 s for either.
    way, made = soonest(costs, work, Machine(nodes=8000))
    assert 80 <= made.workers <= 120
    assert made.seconds < predict(costs, way, Machine(nodes=8000)).seconds / 5


@given(costs_, works, nodes_, st.floats(1, 3), st.floats(1, 3))
def test_more_work_is_never_faster(costs: Costs, work: Work, nodes: int, patches: float, size: float) -> None:
    more = replace(work, slide_patches=work.slide_patches * patches, slide_mb=work.slide_mb * size)
    machine = Machine(nodes, read_mb_per_s=1e3, write_mb_per_s=1e3)
    assert predict(costs, work, machine).seconds <= predict(costs, more, machine).seconds * EXACT
    slides = replace(work, slides=2 * work.slides)
    assert predict(costs, work, machine).seconds <= predict(costs, slides, machine).seconds * EXACT


@given(costs_, works, nodes_, st.none() | st.integers(1, 100))
def test_no_time_is_negative_and_no_work_takes_less_than_its_share(
    costs: Costs, work: Work, nodes: int, cores: int | None
) -> None:
    made = predict(costs, work, Machine(nodes, cores=cores))
    assert min(made.start_s, made.work_s, made.manifest_s, *made.limits_s.values()) >= 0
    assert made.work_s * min(made.workers, cores or made.workers) * EXACT >= worker_s(costs, work)
    assert made.seconds == made.start_s + made.work_s + made.manifest_s
