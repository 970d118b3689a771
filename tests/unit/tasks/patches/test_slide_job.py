from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tasks.config import PreprocessConfig
from tasks.patches import slide_job
from tasks.patches.slide_job import SlideJob
from tasks.slides.cohort import SlideRecord


def make(folder: Path, mask: bytes = b"mask", **facts: Any) -> SlideJob:  # noqa: ANN401  # fields of the record
    """A job for files that are never opened: a key is made of their bytes."""
    folder.mkdir(exist_ok=True)
    slide, annotation = folder / "a.tif", folder / "a_mask.tif"
    slide.write_bytes(b"slide")
    annotation.write_bytes(mask)
    record = {"name": "a", "path": slide, "patient": "a", "annotation": annotation, "truth": "tumour"}
    return SlideJob(
        record=SlideRecord.model_validate(record | {"exhaustive": True} | facts),
        split="train",
        config=PreprocessConfig(),
        seed=0,
        mpp=None,
        root=folder / "site",
        folder=folder / "site" / "run",
    )


def key(job: SlideJob) -> str:
    return job.key(job.slide_digest())


@pytest.mark.parametrize(
    "facts",
    [
        {"tumour_values": (2,)}, {"patient": "b"}, {"node": 1}, {"centre": 1}, {"stage": "micro"}, {"label": "tumour"},
        {"truth": "unknown"}, {"exhaustive": False}, {"name": "b"}, {"annotation": None},
    ],
)  # fmt: skip
def test_every_fact_of_the_slide_is_in_the_key(tmp_path: Path, facts: dict[str, Any]) -> None:
    assert key(make(tmp_path, **facts)) != key(make(tmp_path))


def test_what_a_table_gives_as_split_and_resolution_counts_as_that_of_the_job(tmp_path: Path) -> None:
    job = make(tmp_path)
    assert key(make(tmp_path, split="train", mpp=0.25)) == key(job)
    assert key(job.model_copy(update={"split": "test"})) != key(job)
    assert key(job.model_copy(update={"mpp": 0.25})) != key(job)


@pytest.mark.parametrize("large", [False, True])
def test_another_mask_makes_another_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, large: bool) -> None:
    monkeypatch.setattr(slide_job, "_INDEXED_BYTES", 1 if large else 1 << 24)
    job = make(tmp_path)
    first = key(job)
    assert job.known_key() == first
    assert key(make(tmp_path, mask=b"Mask")) != first
    assert key(make(tmp_path / "elsewhere")) == first


def test_a_large_mask_is_read_for_its_digest_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slide_job, "_INDEXED_BYTES", 4)
    job = make(tmp_path)
    job.slide_digest()
    assert job.known_key() is None, "the mask would have to be read"
    first = key(job)
    assert job.known_key() == first
    entries = {path: path.stat().st_mtime_ns for path in (tmp_path / "site" / ".digests").iterdir()}
    assert len(entries) == 2
    assert key(job) == first
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "site" / ".digests").iterdir()} == entries
    assert job.record.annotation is not None
    job.record.annotation.write_bytes(b"other")
    assert job.known_key() is None
    job.record.annotation.unlink()
    assert job.known_key() is None
