from __future__ import annotations

from pathlib import Path

from flows.context import make_context
from flows.preprocess import slide_jobs
from tasks.config import parse_config


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
