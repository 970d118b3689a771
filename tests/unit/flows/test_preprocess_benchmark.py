from __future__ import annotations

import csv
import json
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from deployments.sites import DaskCluster, Site
from deployments.slurm_jobs import SlurmJobs
from flows.commands.benchmark_preprocess import preprocess
from flows.preprocess_benchmark import grids, model_grids
from flows.preprocess_benchmark.cell import Cell, Trial, trial_line
from flows.preprocess_benchmark.forecast import (
    NODES,
    TABLE_FOUR,
    cohort_forecasts,
    measured_models,
    table_four_forecast,
)
from flows.preprocess_benchmark.plan import Conditions, Outlook, PreprocessBenchmark, measurement_order, planned_cells
from flows.preprocess_benchmark.report import NUMBERS, REPORT, TABLE, write_preprocess_report
from flows.preprocess_benchmark.scaling import Costs
from flows.preprocess_benchmark.trial import with_workers
from tasks.config import PreprocessConfig
from tasks.errors import InputError
from tasks.report.benchmark_data import Grid
from tests.services.preprocess_trials import failed_trial, made_trial, made_trials

OUTLOOK = Outlook()


def plan_of(folder: Path) -> PreprocessBenchmark:
    return PreprocessBenchmark(
        workspace=folder,
        conditions=Conditions(site="site-a", settings=PreprocessConfig()),
        workers=(1, 2),
        slides=(1, 4),
        sampling=("random", "dense"),
        encodings=("raw", "tiles"),
        output=folder,
    )


def column(grid: Grid, heading: str) -> list[str]:
    place = grid.headings.index(heading)
    return [row[place] for row in grid.rows]


def slurm_site(**jobs: object) -> Site:
    keys = {"walltime": "1:00:00", "memory_mib": 1000, "cores": 4, "processes": 2, "maximum_jobs": 3} | jobs
    return Site(name="s", root=Path("/s"), dask=DaskCluster(cluster="slurm", slurm=SlurmJobs.model_validate(keys)))


def test_random_patches_take_the_first_encoding_and_only_one_cell_warms_up(tmp_path: Path) -> None:
    plan = plan_of(tmp_path)
    cells = planned_cells(plan)
    assert len(cells) == len(set(cells)) == 12
    assert {cell.kind for cell in cells} == {"random raw", "dense raw", "dense tiles"}
    order = measurement_order(cells, plan)
    warm = [cell for cell, repeat in order if repeat == 0]
    assert [(cell.workers, cell.slides) for cell in warm] == [(2, 4)]
    assert order[0] == (warm[0], 0)
    for repeat in (1, 2, 3):
        assert {cell for cell, number in order if number == repeat} == set(cells)
    assert order == measurement_order(cells, plan)
    assert [cell for cell, _ in order[1:13]] != cells, "in random order"


def test_a_slurm_site_gets_so_many_jobs_neither_more_nor_fewer() -> None:
    jobs = with_workers(slurm_site(), 4).dask.slurm
    assert jobs is not None
    assert (jobs.minimum_jobs, jobs.maximum_jobs) == (2, 2)
    with pytest.raises(InputError, match="do not come out even: each of its jobs holds 2"):
        with_workers(slurm_site(), 3)
    with pytest.raises(InputError, match="8 workers are more than the 6 that it allows"):
        with_workers(slurm_site(), 8)


def test_a_local_site_gets_so_many_workers() -> None:
    site = Site(name="s", root=Path("/s"), dask=DaskCluster(workers=4))
    assert with_workers(site, 3).dask.workers == 3
    with pytest.raises(InputError, match=r"raise workers in \[dask\] of its file"):
        with_workers(site, 5)


def test_the_measured_table_has_medians_and_spread_without_warm_up_and_failures() -> None:
    cell = Cell(sampling="dense", encoding="raw", workers=1, slides=2)
    trials = [made_trial(cell, 0), *(made_trial(cell, repeat) for repeat in (3, 1, 2)), failed_trial(cell, "lost")]
    (row,) = grids.measured_grid(trials).rows
    found = dict(zip(grids.measured_grid(trials).headings, row, strict=True))
    assert (found["s"], found["least to most"], found["repeats"]) == ("7.29", "7.28 to 7.30", "3")
    assert (found["patches"], found["CPU s"]) == ("4,000", "5.50")
    (failure,) = grids.failures_grid(trials).rows
    assert failure[-1] == "lost"


def test_speed_is_told_against_the_least_workers_of_the_same_cell() -> None:
    grid = grids.measured_grid(made_trials())
    found = dict(zip(zip(*(column(grid, name) for name in grids.CELL), strict=True),
                     column(grid, "times faster"), strict=True))  # fmt: skip
    assert found["dense", "raw", "4", "1"] == "1.00"
    assert float(found["dense", "raw", "4", "2"]) == pytest.approx(11.31 / 7.31, abs=0.01)
    assert found["dense", "raw", "1", "2"] == "1.00"


def test_the_model_finds_what_the_trials_were_made_of() -> None:
    models = measured_models(made_trials())
    costs = models["dense raw"].costs
    wanted = {"start_s": 2.0, "worker_start_cpu_s": 1.5, "pictures_s": 0.2, "reads_a_byte": 2.0}
    wanted |= {"cut_s_per_patch": 1.4 / 2000, "masks_s_per_mpx": 3.0, "read_s_per_mb": 0.001, "open_s": 0.2}
    assert {name: getattr(costs, name) for name in wanted} == pytest.approx(wanted, rel=1e-6)
    residuals = model_grids.residual_grid(models, made_trials())
    assert all(abs(float(off)) < 0.1 for off in column(residuals, "difference s"))


def test_warm_ups_and_failures_are_not_in_the_model() -> None:
    cell = Cell(sampling="dense", encoding="raw", workers=1, slides=1)
    assert measured_models([made_trial(cell, 0), failed_trial(cell, "lost")]) == {}


def test_43_million_patches_take_no_less_than_the_file_system_allows_and_are_told_without_it_too() -> None:
    model = measured_models(made_trials())["dense raw"]
    asked = cohort_forecasts(model, OUTLOOK)
    assert [one.machine.nodes for one in asked] == [nodes for nodes in NODES for _ in range(2)]
    for one in asked:
        assert one.work.slides * one.work.slide_patches == pytest.approx(43e6)
        assert one.prediction.workers <= min(one.machine.workers, one.work.parallel_tasks)
    for limited, unlimited in zip(asked[::2], asked[1::2], strict=True):
        assert limited.prediction.seconds >= limited.prediction.limits_s["shared writing"] == pytest.approx(645)
        assert unlimited.prediction.seconds < 645
        assert "shared" not in unlimited.prediction.bound_by
    grid = model_grids.prediction_grid({model.kind: model}, OUTLOOK)
    assert column(grid, "shared file system") == ["10,000 and 10,000 MB/s", "no limit"] * 3


def test_models_come_in_one_order_whatever_was_measured_first() -> None:
    trials = made_trials()
    assert (
        list(measured_models(trials[::-1]))
        == list(measured_models(trials))
        == ["random raw", "dense raw", "dense tiles"]
    )


def test_the_papers_table_is_told_as_the_papers() -> None:
    grid = model_grids.paper_grid(measured_models(made_trials()), OUTLOOK)
    assert "its machine, not this one" in grid.title
    assert column(grid, "paper: s (AGH)") == ["292", "260", "18,400", "3,000", "7,530", "3,780"]
    assert column(grid, "model of") == ["random raw"] * 2 + ["dense raw"] * 4
    unknown = model_grids.paper_grid({}, OUTLOOK)
    assert set(column(unknown, "predicted s")) == {"not measured"}
    asked = table_four_forecast(TABLE_FOUR[3], measured_models(made_trials())["dense raw"], OUTLOOK)
    assert (asked.machine.workers, asked.work.slides) == (1000, 1)
    assert asked.work.bands > 1


def test_assumptions_name_the_limits_that_were_given() -> None:
    outlook = Outlook(node_workers=40, read_mb_per_s=2500, write_mb_per_s=1250)
    grid = model_grids.assumptions_grid(measured_models(made_trials()), outlook)
    told = {row[0]: row[1] for row in grid.rows}
    assert "2,500 MB/s" in told["shared file system"]
    assert "1,250 MB/s" in told["shared file system"]
    assert told["cores there"].startswith("40 workers a node")
    assert told["cores here"].startswith("all workers together had 2")
    assert "slides of 20 MB, masks of 0.1 Mpx, at most 2 workers and 4 tasks" in told["straight lines"]
    assert "where 100 lay in a MB of slide; in the slides of Table 4 2.5 do" in told["random patches"]


def test_the_report_is_a_page_a_table_and_numbers(tmp_path: Path) -> None:
    trials = [*made_trials(), failed_trial(Cell(sampling="dense", encoding="raw", workers=9, slides=1), "<b>lost</b>")]
    write_preprocess_report(trials, plan_of(tmp_path), Site(name="site-a", root=tmp_path))
    page = (tmp_path / REPORT).read_text()
    assert "&lt;b&gt;lost" in page
    assert "data:image/" in page
    with (tmp_path / TABLE).open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(trials)
    assert rows[0]["repeat"] == "0"
    assert float(rows[1]["cut_wall_s"]) == 1.2
    assert rows[-1]["seconds"] == ""
    numbers = json.loads((tmp_path / NUMBERS).read_text())
    assert set(numbers["models"]["dense raw"]["costs"]) == {field.name for field in fields(Costs)}
    assert {one["machine"]["nodes"] for one in numbers["predictions"]} == set(NODES)
    assert all(one["seconds"] > 0 and one["bound_by"] in one["limits_s"] for one in numbers["predictions"])


@pytest.mark.parametrize("failed", [True, False], ids=["all failed", "none was made"])
def test_a_report_without_measurements_says_so(tmp_path: Path, failed: bool) -> None:
    cell = Cell(sampling="dense", encoding="raw", workers=1, slides=1)
    trials: list[Trial] = [failed_trial(cell, "lost")] if failed else []
    write_preprocess_report(trials, plan_of(tmp_path), Site(name="site-a", root=tmp_path))
    page = (tmp_path / REPORT).read_text()
    assert "Not measured." in page
    assert ("Nothing failed." in page) is not failed


def test_slides_without_a_single_patch_do_not_break_the_model(tmp_path: Path) -> None:
    cell = Cell(sampling="dense", encoding="raw", workers=1, slides=2)
    empty = made_trial(cell, patches_by_slide=(0, 0), patch_bytes=0)
    assert measured_models([empty])["dense raw"].costs.cut_s_per_patch == 0
    write_preprocess_report([empty], plan_of(tmp_path), Site(name="site-a", root=tmp_path))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"workers": "0"}, "each must be 1 to"),
        ({"slides": "1,x"}, "is no list of numbers"),
        ({"sampling": "sparse"}, "'sparse' is not known"),
        ({"encodings": ","}, "--encodings names nothing"),
        ({"patch_px": 0}, "patch_px"),
        ({"shared_write_mb_per_s": -1.0}, "write_mb_per_s"),
    ],
)
def test_wrong_options_are_the_users_mistake(tmp_path: Path, options: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        preprocess(site="site-a", output=tmp_path / "out", workspace=tmp_path / "ws", **options)
    assert not list(tmp_path.iterdir())


def test_a_trial_is_told_in_one_line() -> None:
    cell = Cell(sampling="dense", encoding="raw", workers=1, slides=2)
    assert trial_line(made_trial(cell, 0)) == "dense raw, slides 2, workers 1, warm-up: 7.3 s, 4000 patches, load 0.5"
    assert trial_line(failed_trial(cell, "lost")) == "dense raw, slides 2, workers 1, repeat 1: failed: lost"
