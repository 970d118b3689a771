"""A large slide on a real Slurm: its parts on several nodes, a worker that dies in the middle of one, job arrays."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from flows.context import make_context
from flows.slide_jobs import slide_jobs
from tasks.config import load_config
from tasks.errors import ExitCode
from tasks.patches.preprocess import preprocess_slide
from tests.services.camnet_cli import TRAIN, Done, camnet, write_config
from tests.services.cohort import small_cohort
from tests.services.prefect_server import asked
from tests.services.slide_watch import Reading, SlideWatch, watched_slides
from tests.services.slurm import Slurm, running_slurm, slurm_sites

pytestmark = pytest.mark.slow
# 1,024 positions; with the random patches five tasks.
PARTS = 4
IN_PARTS = TRAIN.replace(
    "[preprocess]", '[preprocess]\ngrid_part_positions = 260\ngrid_splits = ["train", "validation", "test"]'
)


@pytest.fixture(scope="module")
def slurm() -> Iterator[Slurm]:
    with running_slurm() as slurm:
        yield slurm


@pytest.fixture(scope="module")
def environment(slurm: Slurm, prefect_url: str) -> dict[str, str]:
    return {**slurm.environment, "PREFECT_API_URL": prefect_url}


@pytest.fixture(scope="module")
def large_slide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cohort of one slide."""
    folder = tmp_path_factory.mktemp("cohort")
    small_cohort(folder, slides=1, centres=1, side_px=3072)
    return folder


@pytest.fixture(scope="module")
def in_one_process(large_slide: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What is made of the slide without any cluster."""
    folder = tmp_path_factory.mktemp("alone")
    config = load_config(write_config(folder / "run.toml", large_slide, more=IN_PARTS))
    (job,) = slide_jobs(make_context(config, folder / "ws", "embedded"))
    outcome = preprocess_slide(job)
    assert (outcome.state, outcome.parts) == ("done", PARTS)
    return files_of(folder / "ws")


def preprocess(
    folder: Path, slides: Path, environment: dict[str, str], *options: str, sites: Path, more: str = IN_PARTS
) -> Done:
    """Run ``camnet preprocess`` in `folder`."""
    config = write_config(folder / "run.toml", slides, more=f'sites = "{sites}"\n{more}')
    return camnet("preprocess", "-c", config, "-w", folder / "ws", *options, environment=environment)


def files_of(workspace: Path) -> dict[str, bytes]:
    folder = workspace / "site-a" / "test" / "patches"
    found = [path for pattern in ("*.h5", "*.jpg", "*.geojson") for path in folder.rglob(pattern)]
    return {str(path.relative_to(folder)): path.read_bytes() for path in found}


def parts_of(workspace: Path) -> dict[str, int]:
    """Records of finished parts, with the time at which they were written."""
    folder = workspace / "site-a" / "test" / "patches" / "parts"
    return {path.name: path.stat().st_mtime_ns for path in folder.glob("*.json")}


@dataclass
class Killing:
    """Kills one worker in the middle of a part, once another part is finished."""

    workspace: Path
    killed: Reading | None = None
    kept: dict[str, int] = field(default_factory=dict)

    def __call__(self, reading: Reading) -> None:
        if self.killed is None and parts_of(self.workspace) and reading.freeze():
            self.killed, self.kept = reading, parts_of(self.workspace)
            with suppress(ProcessLookupError):
                os.kill(reading.pid, signal.SIGKILL)


@dataclass(frozen=True)
class Interrupted:
    folder: Path
    done: Done
    watch: SlideWatch
    killing: Killing
    nodes: set[str]


@pytest.fixture(scope="module")
def interrupted(
    slurm: Slurm, large_slide: Path, environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Interrupted:
    folder = tmp_path_factory.mktemp("interrupted")
    killing = Killing(folder / "ws")
    with watched_slides(large_slide, killing) as watch:
        sites = slurm_sites(folder / "sites", minimum_jobs=2, maximum_jobs=2)
        done = preprocess(folder, large_slide, environment, sites=sites)
    return Interrupted(folder, done, watch, killing, slurm.nodes_used())


def test_parts_of_one_slide_on_several_nodes_are_those_of_one_process(
    interrupted: Interrupted, in_one_process: dict[str, bytes], slurm: Slurm
) -> None:
    assert interrupted.done.code == ExitCode.DONE, interrupted.done.errors
    assert files_of(interrupted.folder / "ws") == in_one_process
    assert sum("part-000" in name for name in in_one_process) == PARTS
    (readers,) = interrupted.watch.readers.values()
    assert len({reading.job for reading in readers}) >= 2
    assert len(interrupted.nodes) >= 2
    assert slurm.unfinished() == []


def test_a_worker_that_dies_costs_its_part_only(interrupted: Interrupted) -> None:
    assert interrupted.killing.killed is not None
    kept = interrupted.killing.kept
    assert 1 <= len(kept) < PARTS + 1
    assert kept.items() <= parts_of(interrupted.folder / "ws").items()
    (outcome,) = json.loads(interrupted.done.output)["outcomes"]
    assert (outcome["state"], outcome["parts"], outcome["reused"]) == ("done", PARTS, False)


def test_the_server_sees_every_part_and_one_slide(interrupted: Interrupted, environment: dict[str, str]) -> None:
    (outcome,) = json.loads(interrupted.done.output)["outcomes"]
    latest = max(
        asked(environment, "artifacts", {"artifacts": {"key": {"any_": ["slides-progress"]}}}),
        key=lambda artifact: str(artifact["created"]),
    )
    assert (float(latest["data"]), latest["description"]) == (100, "1 of 1 slides")
    runs: list[dict[str, Any]] = asked(
        environment, "task_runs", {"flow_runs": {"id": {"any_": [latest["flow_run_id"]]}}}
    )
    steps = ["masks", "random patches", *(f"part {part} of {PARTS}" for part in range(1, PARTS + 1))]
    assert {run["name"] for run in runs} == {f"slide-{outcome['slide']}-{step}" for step in steps}
    for step in steps[1:]:
        assert f"{outcome['slide']}, {step}: " in interrupted.done.errors


def test_a_second_run_finds_the_slide_and_one_without_a_shard_makes_that_part_only(
    interrupted: Interrupted,
    large_slide: Path,
    environment: dict[str, str],
    in_one_process: dict[str, bytes],
    slurm: Slurm,
) -> None:
    before, workspace = slurm.states(), interrupted.folder / "ws"
    sites = interrupted.folder / "sites"
    again = preprocess(interrupted.folder, large_slide, environment, sites=sites)
    assert again.code == ExitCode.DONE, again.errors
    assert [outcome["reused"] for outcome in json.loads(again.output)["outcomes"]] == [True]
    assert slurm.states() == before
    kept = parts_of(workspace)
    (lost,) = workspace.rglob("grid/*part-0002-of-*.h5")
    lost.unlink()
    mended = preprocess(interrupted.folder, large_slide, environment, sites=sites)
    assert mended.code == ExitCode.DONE, mended.errors
    assert files_of(workspace) == in_one_process
    made = {name for name, time in parts_of(workspace).items() if kept[name] != time}
    assert made == {lost.name.replace(".patches.h5", ".json")}


def test_a_job_array_has_a_task_for_each_part(
    slurm: Slurm, large_slide: Path, tmp_path: Path, environment: dict[str, str], in_one_process: dict[str, bytes]
) -> None:
    script, sites = tmp_path / "array.sh", slurm_sites(tmp_path / "sites", maximum_jobs=3)
    nowhere = {**environment, "PREFECT_API_URL": "http://127.0.0.1:9/api"}
    written = preprocess(tmp_path, large_slide, nowhere, "--sbatch-array", str(script), sites=sites)
    assert written.code == ExitCode.DONE, written.errors
    assert json.loads(written.output) == {"script": str(script), "array_tasks": PARTS + 1, "slides": 1}
    array = slurm.run("sbatch", "--parsable", script).strip()
    ended = slurm.wait_for(array)
    logs = sorted((tmp_path / "ws" / "site-a" / "slurm-logs").glob(f"camnet-test-{array}_*.log"))
    assert ended == {"COMPLETED"}, [log.read_text() for log in logs]
    assert len(logs) == PARTS + 1
    before = slurm.states()
    nothing = preprocess(tmp_path, large_slide, nowhere, "--sbatch-array", str(script), sites=sites)
    assert nothing.code == ExitCode.USAGE
    assert "all 1 slides are finished" in nothing.error["cause"]

    done = preprocess(tmp_path, large_slide, environment, sites=sites)
    assert done.code == ExitCode.DONE, done.errors
    assert [outcome["reused"] for outcome in json.loads(done.output)["outcomes"]] == [True]
    assert files_of(tmp_path / "ws") == in_one_process
    assert slurm.states() == before
