"""Layer 1 killed in the middle of its files: a final name is a whole file, and the next run makes the same ones."""

from __future__ import annotations

import random
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tasks.digests import file_digest
from tasks.patches.slide_job import SlideJob
from tests.services.cohort import small_cohort
from tests.services.killed_writers import KILLED, KilledWriters, killed_writers
from tests.services.slide_jobs import slide_jobs

SEEDS = 8


@pytest.fixture(scope="module")
def writers() -> Iterator[KilledWriters]:
    with killed_writers() as writers:
        yield writers


@dataclass(frozen=True)
class Golden:
    """What an undisturbed run makes of a slide, by path below the root, and the points of writing on the way."""

    slides: Path
    files: dict[str, str]
    points: list[str]


def job_of(slides: Path, root: Path) -> SlideJob:
    return next(iter(slide_jobs(slides, root, encoding="raw", grid_part_positions=60).values()))


def made(root: Path) -> dict[str, str]:
    """Digests of what is there under final names. The record holds seconds and the index holds times: not those."""
    return {
        str(path.relative_to(root)): file_digest(path)
        for path in sorted(root.rglob("*"))
        if path.is_file() and path.suffix not in (".part", ".json")
    }


@pytest.fixture(scope="module")
def golden(writers: KilledWriters, tmp_path_factory: pytest.TempPathFactory) -> Golden:
    folder = tmp_path_factory.mktemp("golden")
    cohort = small_cohort(folder / "cohort", slides=2, side_px=1024)
    name = next(slide.name for slide in cohort.slides if slide.lesions)
    slides = folder / "slides"
    slides.mkdir()
    shutil.copy(cohort.folder / "images" / f"{name}.tif", slides)
    shutil.copy(cohort.folder / "annotations" / f"{name}.xml", slides)
    ended = writers.preprocess(job_of(slides, folder / "root"))
    assert ended.codes == [0]
    files = made(folder / "root")
    assert sum(path.endswith(".patches.h5") for path in files) >= 3, "random patches and some parts of a grid"
    return Golden(slides, files, ended.points)


def dies_and_goes_on(golden: Golden, writers: KilledWriters, root: Path, at: int) -> None:
    """Kill it before point `at`, look at what is there, run it again, and look again."""
    job = job_of(golden.slides, root)
    assert writers.preprocess(job, at=at).codes == [KILLED]
    assert made(root).items() <= golden.files.items(), "what has its final name is whole"
    assert writers.preprocess(job).codes == [0]
    assert made(root) == golden.files


@pytest.mark.parametrize("seed", range(SEEDS))
def test_killed_anywhere_the_next_run_makes_the_same_files(
    golden: Golden, writers: KilledWriters, tmp_path: Path, seed: int
) -> None:
    dies_and_goes_on(golden, writers, tmp_path, random.Random(seed).randrange(len(golden.points)))


@pytest.mark.parametrize("shard", [0, -1])
@pytest.mark.parametrize("moment", ["before the rename", "between the rename and the flush of the folder"])
def test_killed_around_a_rename_the_file_is_whole_or_not_there(
    golden: Golden, writers: KilledWriters, tmp_path: Path, moment: str, shard: int
) -> None:
    renames = [number for number, name in enumerate(golden.points) if name == "replace"]
    assert all(golden.points[number + 1] == "fsync" for number in renames)
    dies_and_goes_on(golden, writers, tmp_path, renames[shard] + (moment != "before the rename"))


def test_a_temporary_file_of_a_dead_process_is_in_nobodys_way(
    golden: Golden, writers: KilledWriters, tmp_path: Path
) -> None:
    job = job_of(golden.slides, tmp_path)
    torn = golden.points.index("pwrite") + 3
    for _ in range(2):
        assert writers.preprocess(job, at=torn).codes == [KILLED]
    left = list(tmp_path.rglob("*.part"))
    assert len({path.name for path in left}) == len(left) == 2
    assert writers.preprocess(job).codes == [0]
    assert made(tmp_path) == golden.files


def test_two_workers_on_one_slide_make_one_result(golden: Golden, writers: KilledWriters, tmp_path: Path) -> None:
    # A worker that a scheduler has given up on may still be at work when another takes its slide.
    job = job_of(golden.slides, tmp_path)
    assert writers.preprocess(job, processes=3).codes == [0, 0, 0]
    assert made(tmp_path) == golden.files
    assert list(tmp_path.rglob("*.part")) == []
