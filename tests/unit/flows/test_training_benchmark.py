from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from flows.commands.benchmark_training import training
from flows.training_benchmark import grids
from flows.training_benchmark.figures import cell_figures, growth
from flows.training_benchmark.flow import available_shards, benchmark_training, first_shards
from flows.training_benchmark.plan import (
    Cell,
    Conditions,
    Outlook,
    TrainingBenchmark,
    figure_nine_cells,
    figure_ten_cells,
    measurement_order,
)
from flows.training_benchmark.report import NUMBERS, REPORT, TABLE, write_training_report
from flows.training_benchmark.trial import Trial, trial_line
from tasks.digests import file_digest
from tasks.errors import InputError
from tasks.report.benchmark_data import Grid
from tasks.training.job import ShardOfJob
from tests.services.texture_shards import TextureShard, write_texture_shard
from tests.services.training_trials import failed_trial, made_trial

ALONE = Cell(architecture="ResNet50", ranks=1, threads=1, rows=64)
PAIR = Cell(architecture="ResNet50", ranks=2, threads=1, rows=64)


def plan_of(folder: Path, **changes: object) -> TrainingBenchmark:
    plan = TrainingBenchmark(
        workspace=folder,
        conditions=Conditions(machine="here"),
        architectures=("ResNet50", "MobileNetV2"),
        shapes=((1, 1), (1, 2), (2, 1)),
        rows=(64, 16, 32),
        repeats=2,
        output=folder,
    )
    return plan.model_copy(update=changes)


def all_trials(plan: TrainingBenchmark) -> list[Trial]:
    return [made_trial(cell, repeat) for cell, repeat in measurement_order(plan)]


def column(grid: Grid, heading: str) -> list[str]:
    place = grid.headings.index(heading)
    return [row[place] for row in grid.rows]


def test_all_networks_and_ranks_get_the_most_patches_and_the_first_network_all_of_them(tmp_path: Path) -> None:
    plan = plan_of(tmp_path)
    assert {cell.rows for cell in figure_nine_cells(plan)} == {64}
    assert len(figure_nine_cells(plan)) == 6
    assert [(one.architecture, one.ranks, one.rows) for one in figure_ten_cells(plan)] == [
        ("ResNet50", 2, 16),
        ("ResNet50", 2, 32),
        ("ResNet50", 2, 64),
    ]


def test_each_round_has_every_cell_once_in_an_order_of_its_own(tmp_path: Path) -> None:
    plan = plan_of(tmp_path)
    order = measurement_order(plan)
    wanted = {*figure_nine_cells(plan), *figure_ten_cells(plan)}
    assert [repeat for _, repeat in order] == [1] * 8 + [2] * 8
    first, second = [cell for cell, _ in order[:8]], [cell for cell, _ in order[8:]]
    assert set(first) == set(second) == wanted
    assert first != second
    assert order == measurement_order(plan)


def test_the_first_epoch_and_failures_are_in_no_median() -> None:
    slow = made_trial(PAIR, 2, epoch_s=9.0)
    found = cell_figures([made_trial(PAIR), slow, failed_trial(PAIR, "lost")])[PAIR]
    assert [found.epoch_s.median, found.epoch_s.least, found.epoch_s.most] == pytest.approx([6.35, 3.7, 9.0])
    assert (found.epoch_s.n, found.trials) == (4, 2)
    assert found.all_reduce_s is not None
    assert found.all_reduce_s.n == 32
    assert cell_figures([failed_trial(PAIR, "lost")]) == {}


def test_ten_epochs_are_start_up_the_first_epoch_and_nine_more() -> None:
    found = cell_figures([made_trial(ALONE)])[ALONE]
    assert found.ten_epochs_s == pytest.approx(20 + 17.4 + 9 * 7.4)
    assert found.all_reduce_share is None


def test_the_share_of_the_all_reduce_is_of_the_step_with_its_waiting() -> None:
    found = cell_figures([made_trial(PAIR)])[PAIR]
    assert found.all_reduce_share == pytest.approx(0.2 / (3.7 / 8))


def test_the_line_finds_what_the_epochs_were_made_of(tmp_path: Path) -> None:
    plan = plan_of(tmp_path)
    line = growth(all_trials(plan), figure_ten_cells(plan))
    assert line is not None
    assert [line.start_s, line.s_per_patch] == pytest.approx([0.5, 0.05])
    assert line.rms_s == pytest.approx(0, abs=1e-9)
    assert line.r_squared == pytest.approx(1)
    assert [rows for rows, _, _ in line.points] == [16, 32, 64]


def test_what_the_line_leaves_is_told(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, repeats=1)
    cells = figure_ten_cells(plan)
    trials = [made_trial(cell, epoch_s=seconds) for cell, seconds in zip(cells, (1.0, 3.0, 4.0), strict=True)]
    line = growth(trials, cells)
    assert line is not None
    left = [one for _, _, one in line.points]
    assert sum(left) == pytest.approx(0)
    assert left[1] > 0.5
    assert line.rms_s == pytest.approx((sum(one**2 for one in left) / 3) ** 0.5)
    assert line.r_squared is not None
    assert line.r_squared < 0.95
    assert column(grids.growth_grid(line, cells[0]), "measured less line s")[1] == f"{left[1]:+.3f}"


def test_one_number_of_patches_is_no_line(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, rows=(64,))
    line = growth(all_trials(plan), figure_ten_cells(plan))
    assert line is None
    assert "needs two numbers" in grids.growth_grid(line, PAIR).absent


def test_speed_is_told_against_one_rank_of_one_thread() -> None:
    found = list(cell_figures([made_trial(ALONE), made_trial(PAIR)]).values())
    grid = grids.all_reduce_grid(found)
    assert column(grid, "times 1 × 1") == ["1.00", "2.00"]
    assert column(grid, "% of the step") == ["", "43.2"]
    assert column(grid, "gradients") == ["", "4.00 MB"]


def test_the_input_keeps_its_limit_or_does_not() -> None:
    slow = made_trial(PAIR, waiting_share=0.06)
    grid = grids.waiting_grid(list(cell_figures([made_trial(ALONE), slow]).values()))
    assert column(grid, "median %") == ["1.00", "6.00"]
    assert column(grid, "kept") == ["yes", "no"]


def test_the_model_starts_from_the_fastest_node_alone_and_the_measured_gradients() -> None:
    threads = Cell(architecture="ResNet50", ranks=1, threads=2, rows=64)
    half = made_trial(PAIR).model_copy(update={"gradient_bytes": 2_000_000})
    trials = [made_trial(ALONE), made_trial(threads, epoch_s=4.0), half]
    grid = grids.efficiency_grid(list(cell_figures(trials).values()), Outlook(latency_us=0))
    assert column(grid, "nodes") == ["1", "2", "4", "8", "16", "32", "64"]
    assert set(column(grid, "step s, measured")) == {"0.500"}
    assert column(grid, "1 Gb/s")[:2] == ["100.0 % (0.000 s)", f"{100 * 0.5 / 0.516:.1f} % (0.016 s)"]
    assert column(grid, "100 Gb/s")[-1].startswith("99.9 %")
    no_pair = list(cell_figures([made_trial(ALONE)]).values())
    assert grids.all_gradient_bytes(no_pair[0], no_pair) == 4_000_000


def test_given_shards_are_taken_from_the_first_on_until_they_suffice() -> None:
    shards = [(ShardOfJob(path=Path(f"/{number}"), digest="sha256:0"), 10) for number in range(3)]
    taken, rows = first_shards(shards, 15)
    assert ([shard.path.name for shard in taken], rows) == (["0", "1"], 20)
    with pytest.raises(InputError, match="30 patches with a label in the training split, and --rows asks for 31"):
        first_shards(shards, 31)


def test_the_report_is_a_page_pictures_a_table_and_numbers(tmp_path: Path) -> None:
    plan = plan_of(tmp_path)
    trials = [*all_trials(plan), failed_trial(ALONE, "<b>lost</b>")]
    write_training_report(trials, plan)
    page = (tmp_path / REPORT).read_text()
    assert "&lt;b&gt;lost" in page
    assert page.count("data:image/") == 2
    assert (tmp_path / "figure-9.png").stat().st_size > 10_000
    assert (tmp_path / "figure-10.png").stat().st_size > 10_000
    with (tmp_path / TABLE).open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 3 * 16 + 1
    averaged = {(row["ranks"], row["counted"], row["rows"], row["all_reduce_s"]) for row in rows if row["epoch"]}
    assert ("2", "1", "64", "1.6") in {(*rest, f"{float(seconds or 0):g}") for *rest, seconds in averaged}
    assert not [one for one in averaged if one[0] == "1" and one[3]], "one rank averages nothing"
    numbers = json.loads((tmp_path / NUMBERS).read_text())
    assert numbers["growth"]["s_per_patch"] == pytest.approx(0.05)
    assert len(numbers["cells"]) == 6


def test_a_report_without_measurements_says_so(tmp_path: Path) -> None:
    write_training_report([failed_trial(ALONE, "lost")], plan_of(tmp_path))
    page = (tmp_path / REPORT).read_text()
    assert "Not measured." in page
    assert "Not predicted" in page
    assert "data:image/png" not in page


def test_a_folder_without_shards_is_refused(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, conditions=Conditions(shards=tmp_path))
    with pytest.raises(InputError, match="holds no shard"):
        available_shards(plan, tmp_path / "made")


def test_of_given_shards_those_to_train_on_count_by_their_labels(tmp_path: Path) -> None:
    write_texture_shard(tmp_path, TextureShard("a", "train", (1, 0, -1, 1)))
    write_texture_shard(tmp_path, TextureShard("b", "validation", (1, 0)))
    plan = plan_of(tmp_path, conditions=Conditions(shards=tmp_path))
    ((shard, rows),) = available_shards(plan, tmp_path / "made")
    assert (shard.path.name, rows) == ("a.train.patches.h5", 3)
    assert shard.digest == file_digest(shard.path)


def test_other_conditions_are_another_folders(tmp_path: Path) -> None:
    (tmp_path / "conditions.json").write_text(Conditions(machine="there").model_dump_json())
    with pytest.raises(InputError, match="holds measurements under other conditions"):
        benchmark_training.fn(plan_of(tmp_path))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"ranks": "0"}, "each must be 1 to"),
        ({"ranks": "1x"}, "'1x' is no number of ranks"),
        ({"ranks": "2x1x1"}, "is no number of ranks"),
        ({"rows": "16,y"}, "is no list of numbers"),
        ({"rows": "0"}, "each must be 1 to"),
        ({"rows": "1", "ranks": "2"}, "1 patches cannot feed 2 ranks"),
        ({"architectures": "ResNet5"}, "no architecture is called 'ResNet5'"),
        ({"architectures": ","}, "--architectures names nothing"),
        ({"architectures": "InceptionV3", "patch_px": 48}, "InceptionV3 takes no patches of 48 px"),
        ({"precision": "float8"}, "precision"),
        ({"batch_size": 0}, "batch_size"),
        ({"latency_us": -1.0}, "latency_us"),
        ({"shards_from": Path("absent")}, "is no folder"),
    ],
)
def test_wrong_options_are_the_users_mistake(tmp_path: Path, options: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        training(output=tmp_path / "out", workspace=tmp_path / "ws", **options)
    assert not list(tmp_path.iterdir())


def test_a_trial_is_told_in_one_line() -> None:
    assert trial_line(made_trial(PAIR)) == (
        "ResNet50, 2 × 1, 64 patches, repeat 1: start-up 20.0 s, epochs 13.7, 3.7, 3.7 s, load 0.5"
    )
    assert trial_line(failed_trial(PAIR, "lost")) == "ResNet50, 2 × 1, 64 patches, repeat 1: failed: lost"
