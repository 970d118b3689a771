from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from flows.context import RunContext, make_context
from flows.slide_jobs import broken_off, finished_outcome, preprocess_here, slide_jobs
from tasks.config import parse_config
from tasks.errors import PermanentFault
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
