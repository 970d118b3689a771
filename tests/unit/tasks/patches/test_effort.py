from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from tasks.patches.effort import Effort, Spent, WorkerProcess, accounted, spent_on
from tasks.patches.preprocess import finish_slide, prepare_slide, preprocess_part, preprocess_slide
from tasks.patches.slide_job import SlideJob
from tasks.patches.slide_parts import count_parts, slide_parts
from tasks.slides.synthetic.cohort import CohortSummary
from tests.services.slide_jobs import slide_jobs


def one_slide(cohort: CohortSummary, root: Path, positions: int = 10**6) -> SlideJob:
    jobs = slide_jobs(cohort.folder, root, grid_part_positions=positions)
    return next(job for job in jobs.values() if job.record.truth == "tumour")


def worker(host: str, cpu_s: float = 1.0, cores: int = 2, host_cores: int = 2) -> WorkerProcess:
    return WorkerProcess(host=host, cpu_s=cpu_s, cores=cores, host_cores=host_cores)


def test_phases_are_parts_of_the_whole_and_add_up() -> None:
    with accounted() as account:
        for _ in range(2):
            with spent_on("cut"):
                deadline = time.process_time() + 0.02
                while time.process_time() < deadline:
                    pass
        with spent_on("read"):
            time.sleep(0.01)
        effort = account.effort()
    cut, read = effort.of("cut"), effort.of("read")
    assert cut.cpu_s >= 0.04
    assert read.wall_s >= 0.01
    assert effort.whole.wall_s >= cut.wall_s + read.wall_s
    assert effort.of("masks") == Spent()
    (name,) = effort.workers
    assert name.endswith(f"/{os.getpid()}")


def test_what_nobody_accounts_for_is_not_counted_and_an_error_ends_its_phase() -> None:
    with spent_on("cut"):
        pass
    with accounted() as account:
        with pytest.raises(RuntimeError, match="broken"), spent_on("masks"):
            raise RuntimeError("broken")
        assert list(account.effort().phases) == ["masks"]
    with accounted() as other:
        assert other.effort().phases == {}


def test_reading_and_writing_are_counted_in_bytes(tmp_path: Path) -> None:
    with accounted() as account:
        (tmp_path / "a").write_bytes(bytes(100_000))
        (tmp_path / "a").read_bytes()
        effort = account.effort()
    assert effort.written_bytes >= 100_000
    assert effort.read_bytes >= 100_000


def test_a_process_is_one_worker_in_all_its_tasks() -> None:
    first = Effort(workers={"n1/7": worker("a", 2.0)}, read_bytes=1)
    later = Effort(workers={"n1/7": worker("a", 5.0), "n2/8": worker("a", 1.0)}, read_bytes=2)
    both = first + later
    assert both == later + first
    assert {name: one.cpu_s for name, one in both.workers.items()} == {"n1/7": 5.0, "n2/8": 1.0}
    assert both.read_bytes == 3
    assert Effort() + later == later


@pytest.mark.parametrize(
    ("workers", "cores"),
    [
        ([], 0),
        ([worker("a")] * 3, 2),
        ([worker("a", cores=1, host_cores=64)] * 3, 3),
        ([worker("a"), worker("b"), worker("b")], 4),
    ],
    ids=["nobody", "three on one host", "a core each", "two hosts"],
)
def test_cores_are_shared_by_the_processes_of_a_host(workers: list[WorkerProcess], cores: int) -> None:
    assert Effort(workers=dict(zip("abcdef", workers, strict=False))).cores == cores


def test_a_slide_says_what_it_took_also_in_parts(small_cohort: CohortSummary, tmp_path: Path) -> None:
    made = preprocess_slide(one_slide(small_cohort, tmp_path / "whole"))
    assert set(made.effort.phases) == {"read", "masks", "pictures", "cut", "digest"}
    assert made.seconds == made.effort.whole.wall_s
    assert made.effort.read_bytes > made.files[0].artifact.bytes
    job = one_slide(small_cohort, tmp_path / "parts", 350)
    prepared = prepare_slide(job)
    assert isinstance(prepared, Effort)
    assert set(prepared.phases) == {"read", "masks"}
    parts = [preprocess_part(part) for part in slide_parts(job, count_parts(job))]
    assert all("masks" not in part.effort.phases for part in parts), "made once"
    joined = finish_slide(job, parts, prepared)
    assert joined.effort == prepared + sum((part.effort for part in parts), Effort())
    again = preprocess_slide(job)
    assert again.reused
    assert again.effort == joined.effort, "what was found finished says what its making took"
