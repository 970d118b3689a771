"""Layer 1 on a real Slurm: jobs that are cancelled, workers that die or grow old, queues that never move."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tasks.errors import ExitCode
from tests.services.camnet_cli import TRAIN, Done, camnet, write_config
from tests.services.cohort import small_cohort
from tests.services.prefect_server import asked
from tests.services.slide_watch import Reading, SlideWatch, watched_slides
from tests.services.slurm import Slurm, running_slurm, slurm_sites, wait_until

pytestmark = pytest.mark.slow
# Nothing but seconds differs between runs; they stand in the outcomes.
MADE_ALIKE = ("*.h5", "*.jpg", "*.geojson", "manifest.json")
LIFETIME_S = 10


@pytest.fixture(scope="module")
def slurm() -> Iterator[Slurm]:
    with running_slurm() as slurm:
        yield slurm


@pytest.fixture(scope="module")
def environment(slurm: Slurm, prefect_url: str) -> dict[str, str]:
    return {**slurm.environment, "PREFECT_API_URL": prefect_url}


def preprocess(
    folder: Path, slides: Path, environment: dict[str, str], *options: str, sites: Path | None = None
) -> Done:
    """Run ``camnet preprocess`` in `folder` for a cohort."""
    more = TRAIN if sites is None else f'sites = "{sites}"\n{TRAIN}'
    config = write_config(folder / "run.toml", slides, more=more)
    return camnet("preprocess", "-c", config, "-w", folder / "ws", *options, environment=environment)


def patches_of(workspace: Path) -> dict[str, bytes]:
    folder = workspace / "site-a" / "test" / "patches"
    found = [path for pattern in MADE_ALIKE for path in folder.rglob(pattern)]
    return {str(path.relative_to(folder)): path.read_bytes() for path in found}


def outcomes_of(workspace: Path) -> dict[Path, int]:
    """Records of finished slides, with the time at which they were written."""
    folder = workspace / "site-a" / "test" / "patches" / "outcomes"
    return {path: path.stat().st_mtime_ns for path in folder.glob("*.json")}


@pytest.fixture(scope="module")
def on_local_cluster(cohort: Path, tmp_path_factory: pytest.TempPathFactory, prefect_url: str) -> dict[str, bytes]:
    """What a LocalCluster makes of the cohort."""
    folder = tmp_path_factory.mktemp("local")
    done = preprocess(folder, cohort, {"PREFECT_API_URL": prefect_url})
    assert done.code == ExitCode.DONE, done.errors
    return patches_of(folder / "ws")


@dataclass
class Cancelling:
    """Freezes both workers in the middle of a slide, once some slides are finished, and cancels their jobs."""

    slurm: Slurm
    workspace: Path
    lost: dict[str, str] = field(default_factory=dict)
    kept: dict[Path, int] = field(default_factory=dict)

    def __call__(self, reading: Reading) -> None:
        if self.kept or reading.job in self.lost or len(outcomes_of(self.workspace)) < 2:
            return
        if not reading.freeze():
            return
        self.lost[reading.job] = reading.slide
        if len(self.lost) == 2:
            self.kept = outcomes_of(self.workspace)
            self.slurm.run("scancel", *self.lost)


@dataclass(frozen=True)
class Interrupted:
    """A run both of whose jobs were cancelled in the middle of their work."""

    folder: Path
    done: Done
    watch: SlideWatch
    cancelling: Cancelling
    jobs: dict[str, str]
    nodes: set[str]


@pytest.fixture(scope="module")
def interrupted(
    slurm: Slurm, cohort: Path, environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Interrupted:
    folder = tmp_path_factory.mktemp("interrupted")
    cancelling = Cancelling(slurm, folder / "ws")
    with watched_slides(cohort, cancelling) as watch:
        done = preprocess(folder, cohort, environment, sites=slurm_sites(folder / "sites"))
    return Interrupted(folder, done, watch, cancelling, slurm.states(), slurm.nodes_used())


def test_shards_and_manifest_are_those_of_a_local_cluster(
    interrupted: Interrupted, on_local_cluster: dict[str, bytes]
) -> None:
    assert interrupted.done.code == ExitCode.DONE, interrupted.done.errors
    assert patches_of(interrupted.folder / "ws") == on_local_cluster


def test_a_cancelled_job_is_replaced_and_costs_the_work_on_its_slide_only(interrupted: Interrupted) -> None:
    lost = interrupted.cancelling.lost
    assert len(lost) == 2
    assert len(interrupted.jobs) == 4
    assert {interrupted.jobs[job] for job in lost} == {"CANCELLED"}
    for job, slide in lost.items():
        others = interrupted.watch.jobs_of(slide) - {job}
        assert len(others) == 1, "made by another worker, once"
    again = {slide for slide, readers in interrupted.watch.readers.items() if len(readers) > 1}
    assert again == set(lost.values())
    kept = interrupted.cancelling.kept
    assert len(kept) >= 2
    assert kept.items() <= outcomes_of(interrupted.folder / "ws").items()


def test_the_work_was_on_several_nodes_and_no_job_is_left(interrupted: Interrupted, slurm: Slurm) -> None:
    assert len(interrupted.nodes) >= 2
    assert slurm.unfinished() == []


def test_the_server_sees_the_progress_and_carries_no_list_of_slides(
    interrupted: Interrupted, environment: dict[str, str]
) -> None:
    assert interrupted.done.code == ExitCode.DONE
    shown = asked(environment, "artifacts", {"artifacts": {"key": {"any_": ["slides-progress"]}}})
    latest = max(shown, key=lambda artifact: artifact["created"])
    assert float(latest["data"]) == 100
    assert latest["description"] == "8 of 8 slides"
    runs = asked(environment, "flow_runs", {"flow_runs": {"id": {"any_": [latest["flow_run_id"]]}}})
    assert [run["parameters"] for run in runs] == [{}]


def test_a_second_run_finds_all_slides_finished_and_starts_no_job(
    interrupted: Interrupted, slurm: Slurm, cohort: Path, environment: dict[str, str]
) -> None:
    before = slurm.states()
    done = preprocess(interrupted.folder, cohort, environment, sites=interrupted.folder / "sites")
    assert done.code == ExitCode.DONE, done.errors
    assert all(outcome["reused"] for outcome in json.loads(done.output)["outcomes"])
    assert slurm.states() == before


def test_a_slide_that_kills_its_worker_each_time_is_named_and_the_others_finished(
    slurm: Slurm, tmp_path: Path, environment: dict[str, str]
) -> None:
    small_cohort(tmp_path / "cohort", slides=3)
    slide = min((tmp_path / "cohort").rglob("*.tif"))
    os.truncate(slide, 64 << 30)  # with a hole at its end that takes a minute to read: time to die in

    earlier = {run["id"] for run in runs_of(slide.stem, environment)}

    def run_here() -> list[dict[str, Any]]:
        return [run for run in runs_of(slide.stem, environment) if run["id"] not in earlier]

    def kill(reading: Reading) -> None:
        if reading.slide == slide.stem and run_here():
            with suppress(ProcessLookupError):
                os.kill(reading.pid, signal.SIGKILL)

    sites = slurm_sites(tmp_path / "sites", minimum_jobs=1, maximum_jobs=1, allowed_failures=1)
    with watched_slides(tmp_path / "cohort", kill) as watch:
        done = preprocess(tmp_path, tmp_path / "cohort", environment, sites=sites)
    assert done.code == ExitCode.PARTIAL, done.errors
    assert slide.stem in done.error["cause"]
    outcomes = json.loads(done.output)["outcomes"]
    assert [outcome["state"] for outcome in outcomes] == ["failed", "done", "done"]
    assert "its worker died 2 times at it" in outcomes[0]["reason"]
    assert "memory" in outcomes[0]["remedy"]
    assert len(watch.readers[slide.stem]) == 2
    assert [run["state_type"] for run in run_here()] == ["CRASHED"]
    assert slurm.unfinished() == []


def runs_of(slide: str, environment: dict[str, str]) -> list[dict[str, Any]]:
    """What the Prefect server knows of a slide's task, of all runs of this session."""
    return asked(environment, "task_runs", {"task_runs": {"name": {"any_": [f"slide-{slide}"]}}})


def test_a_worker_whose_lifetime_ends_finishes_its_slide_and_is_replaced(
    slurm: Slurm, tmp_path: Path, environment: dict[str, str]
) -> None:
    small_cohort(tmp_path / "cohort", slides=3)
    frozen: list[Reading] = []

    def hold(reading: Reading) -> None:
        """Let the first worker grow old in the middle of its first slide."""
        if not frozen and reading.freeze():
            frozen.append(reading)
            threading.Timer(LIFETIME_S + 1, reading.thaw).start()

    before = slurm.states()
    sites = slurm_sites(
        tmp_path / "sites",
        minimum_jobs=1,
        maximum_jobs=1,
        walltime="0:10:00",
        lifetime_margin_s=600 - LIFETIME_S,
        lifetime_stagger_s=0,
        allowed_failures=0,
    )
    with watched_slides(tmp_path / "cohort", hold) as watch:
        done = preprocess(tmp_path, tmp_path / "cohort", environment, sites=sites)
    assert done.code == ExitCode.DONE, done.errors
    old = frozen[0]
    assert watch.jobs_of(old.slide) == {old.job}, "finished by the worker that began it"
    for slide, readers in watch.readers.items():
        assert slide == old.slide or old.job not in {reading.job for reading in readers}
    assert len(slurm.states()) == len(before) + 2


def test_a_job_array_makes_the_same_without_dask_and_prefect(
    slurm: Slurm, cohort: Path, tmp_path: Path, environment: dict[str, str], on_local_cluster: dict[str, bytes]
) -> None:
    folder = tmp_path / "-it's a $HOME; 100%"
    folder.mkdir()
    script = folder / "array of slides.sh"
    sites = slurm_sites(tmp_path / "sites", maximum_jobs=3, cores=2, processes=2)
    nowhere = {**environment, "PREFECT_API_URL": "http://127.0.0.1:9/api"}
    options = ("--sbatch-array", str(script), "--array-size", "3")
    written = preprocess(folder, cohort, nowhere, *options, sites=sites)
    assert written.code == ExitCode.DONE, written.errors
    assert json.loads(written.output) == {"script": str(script), "array_tasks": 3, "slides": 8}

    with watched_slides(cohort) as watch:
        array = slurm.run("env", "PREFECT_API_URL=http://127.0.0.1:9/api", "sbatch", "--parsable", script).strip()
        ended = slurm.wait_for(array)
    logs = sorted((folder / "ws" / "site-a" / "slurm-logs").glob(f"camnet-test-{array}_*.log"))
    assert ended == {"COMPLETED"}, [log.read_text() for log in logs]
    assert len(logs) == 3
    assert all(len(readers) == 1 for readers in watch.readers.values())
    before = slurm.states()

    done = preprocess(folder, cohort, environment, sites=sites)
    assert done.code == ExitCode.DONE, done.errors
    assert all(outcome["reused"] for outcome in json.loads(done.output)["outcomes"])
    assert patches_of(folder / "ws") == on_local_cluster
    assert slurm.states() == before
    nothing = preprocess(folder, cohort, nowhere, *options, sites=sites)
    assert nothing.code == ExitCode.USAGE
    assert "all 8 slides are finished" in nothing.error["cause"]


def test_ctrl_c_ends_the_jobs_and_keeps_what_is_finished(
    slurm: Slurm, cohort: Path, tmp_path: Path, environment: dict[str, str]
) -> None:
    config = write_config(tmp_path / "run.toml", cohort, more=f'sites = "{slurm_sites(tmp_path / "sites")}"\n{TRAIN}')
    command = [
        str(Path(sys.executable).with_name("camnet")),
        "preprocess",
        "-c",
        str(config),
        "-w",
        str(tmp_path / "ws"),
    ]
    run = subprocess.Popen(
        command,
        env={**os.environ, **environment},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        # What a shell starts in the background ignores Ctrl-C, and so does all that it starts: these tests, perhaps.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    frozen: set[str] = set()

    def hold(reading: Reading) -> None:
        if reading.job not in frozen and reading.freeze():
            frozen.add(reading.job)

    # Both workers stand still in the middle of a slide: the run cannot end before it is stopped.
    with watched_slides(cohort, hold):
        wait_until(lambda: len(frozen) == 2, 120)
        run.send_signal(signal.SIGINT)
        _, errors = run.communicate(timeout=120)
    assert run.returncode == ExitCode.RETRY_LATER, errors
    assert "stopped; finished work is kept" in errors
    assert slurm.unfinished() == []
