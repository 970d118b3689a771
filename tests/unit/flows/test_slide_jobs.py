from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from flows.context import RunContext, make_context
from flows.slide_jobs import (
    broken_off,
    finished_outcome,
    is_finished,
    preprocess_here,
    slide_jobs,
    slide_of_work,
    work_of,
)
from tasks.config import parse_config
from tasks.errors import InputError, PermanentFault
from tasks.patches.slide_job import SlidePart
from tasks.slides.synthetic.cohort import CohortSummary


@pytest.fixture
def context(small_cohort: CohortSummary, tmp_path: Path) -> RunContext:
    data = {
        "cohort": {"slides": str(small_cohort.folder)},
        "preprocess": {"patch_px": 64, "tumour_patches": 5, "normal_patches": 5},
    }
    return make_context(parse_config(data, folder=tmp_path, source="test"), tmp_path, "embedded")


def test_a_slide_is_found_finished_once_it_is(context: RunContext) -> None:
    job = slide_jobs(context)[0]
    assert finished_outcome(job) is None
    made = preprocess_here(job)
    found = finished_outcome(job)
    assert made.state == "done"
    assert found is not None
    assert found.reused
    assert found.files == made.files


def test_a_fault_of_the_site_is_an_outcome_and_the_next_slide_goes_on(context: RunContext) -> None:
    job = slide_jobs(context)[0]
    job.folder.parent.mkdir(parents=True)
    job.folder.write_text("a file where the folder should be")
    outcome = preprocess_here(job)
    assert outcome.state == "failed"
    assert "cannot be written" in outcome.reason


def test_an_error_of_our_own_is_told_with_its_type(context: RunContext) -> None:
    job = slide_jobs(context)[0]
    assert broken_off(job, ZeroDivisionError("by zero")).reason == "its task ended with ZeroDivisionError: by zero"
    named = broken_off(job, PermanentFault("the disk is full", remedy="free some space"))
    assert (named.state, named.reason, named.remedy) == ("failed", "the disk is full", "free some space")


def test_a_part_of_the_slides_needs_neither_prefect_nor_dask() -> None:
    hidden = "import sys\nfor name in ('prefect', 'prefect_dask', 'dask', 'distributed'): sys.modules[name] = None\n"
    imports = "import flows.cli, flows.slide_jobs, flows.sbatch_array, flows.commands.array"
    subprocess.run([sys.executable, "-c", hidden + imports], check=True, timeout=120)


def test_a_job_has_what_the_table_of_slides_says_and_else_what_the_run_says(tmp_path: Path) -> None:
    for name in ("a.tif", "b.tif"):
        (tmp_path / name).touch()
    (tmp_path / "slides.csv").write_text("path,split,mpp\na.tif,validation,0.25\nb.tif,,\n")
    data = {"cohort": {"slides": "slides.csv", "mpp": 0.5}}
    context = make_context(parse_config(data, folder=tmp_path, source="test"), tmp_path, "embedded")
    jobs = {job.record.name: job for job in slide_jobs(context)}
    assert {name: (job.split, job.mpp) for name, job in jobs.items()} == {
        "a": ("validation", 0.25),
        "b": ("train", 0.5),
    }


def test_split_lists_choose_the_slides_too(tmp_path: Path) -> None:
    for name in ("patient_001_node_0.tif", "patient_001_node_3.tif", "patient_002_node_1.tif"):
        (tmp_path / name).touch()
    (tmp_path / "list.csv").write_text("all500, tumor/level7/centre0/patient001/node3/patches, 4, train\n")
    data = {"cohort": {"slides": ".", "split": "lists", "split_lists": ["list.csv"]}}
    context = make_context(parse_config(data, folder=tmp_path, source="test"), tmp_path, "embedded")
    assert [(job.record.name, job.split) for job in slide_jobs(context)] == [
        ("patient_001_node_0", "train"),
        ("patient_001_node_3", "train"),
    ]


def test_a_large_slide_is_the_work_of_several_and_is_finished_when_all_of_it_is(context: RunContext) -> None:
    cut = {"grid_part_positions": 400, "grid_stride_px": 64, "grid_splits": ("train", "validation", "test")}
    config = context.config.preprocess.model_copy(update=cut)
    context = context.model_copy(update={"config": context.config.model_copy(update={"preprocess": config})})
    job = slide_jobs(context)[0]
    work = work_of(job)
    assert [part.name for part in work if isinstance(part, SlidePart)] == [
        "random patches", "part 1 of 3", "part 2 of 3", "part 3 of 3",
    ]  # fmt: skip
    assert {slide_of_work(part).record.name for part in work} == {job.record.name}
    for done, part in enumerate(work):
        assert [is_finished(each) for each in work] == [True] * done + [False] * (4 - done)
        assert finished_outcome(job) is None
        outcome = preprocess_here(part)
    assert outcome.state == "done"
    found = finished_outcome(job)
    assert found is not None
    assert (found.parts, found.reused) == (3, True)
    assert all(is_finished(part) for part in work)
    assert work_of(slide_jobs(context)[1])[0] != work[0]


def test_a_small_slide_is_its_own_work(context: RunContext) -> None:
    job = slide_jobs(context)[0]
    assert work_of(job) == [job]
    assert not is_finished(job)


def test_a_fault_in_a_part_is_told_with_the_part(context: RunContext, caplog: pytest.LogCaptureFixture) -> None:
    job = slide_jobs(context)[0]
    job.folder.parent.mkdir(parents=True)
    job.folder.write_text("a file where the folder should be")
    with caplog.at_level("INFO"):
        outcome = preprocess_here(SlidePart(job=job, number=2, parts=3))
    assert outcome.state == "failed"
    assert f"{job.record.name}, part 2 of 3 failed: " in caplog.text


def test_a_slide_with_the_name_of_a_part_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.part-0001-of-0002.tif").touch()
    data = {"cohort": {"slides": str(tmp_path)}}
    context = make_context(parse_config(data, folder=tmp_path, source="test"), tmp_path, "embedded")
    with pytest.raises(InputError, match="name of a part of another slide"):
        slide_jobs(context)
