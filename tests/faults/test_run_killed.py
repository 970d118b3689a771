"""A run that is killed at any moment leaves no process behind, and the next one finishes with the same digests."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import psutil
import pytest

from flows.run_state import read_state
from tasks.digests import file_digest
from tasks.errors import ExitCode
from tests.services.camnet_cli import camnet, write_config
from tests.services.cohort import small_cohort

pytestmark = pytest.mark.slow


def processes_of(workspace: Path) -> list[psutil.Process]:
    """Processes that were started for a run in this workspace (a mark in their environment tells)."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("CAMNET_TEST_MARK") == str(workspace):
                found.append(process)
        except psutil.Error:
            continue
    return [process for process in found if process.status() != psutil.STATUS_ZOMBIE]


def shards(workspace: Path) -> dict[str, str]:
    root = workspace / "site-b"
    return {str(path.relative_to(root)): file_digest(path) for path in sorted(root.rglob("*.patches.h5"))}


def test_a_run_that_is_killed_after_each_stage_is_finished_by_the_next_one(tmp_path: Path) -> None:
    small_cohort(tmp_path / "cohort", slides=8, side_px=1280)
    config, workspace = write_config(tmp_path / "run.toml", tmp_path / "cohort"), tmp_path / "ws"
    environment = {**os.environ, "CAMNET_TEST_MARK": str(workspace)}
    command = [str(Path(sys.executable).with_name("camnet")), "run", "-c", str(config), "-w", str(workspace)]
    arrived: dict[str, str] = {}
    for point in ("preprocessed", "staged", "training"):
        run = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            wait_until(partial(has_come_to, point, workspace), run)
        finally:
            run.send_signal(signal.SIGKILL)
            run.wait()
        deadline = time.monotonic() + 60
        while processes_of(workspace) and time.monotonic() < deadline:
            time.sleep(0.5)
        assert processes_of(workspace) == []
        assert arrived.items() <= shards(workspace).items()
        arrived = shards(workspace)
    assert arrived

    done = camnet("run", "-c", config, "-w", workspace)
    assert done.code == ExitCode.DONE, done.errors
    assert arrived == shards(workspace)
    leftovers = [path for path in workspace.rglob("*.part") if "prefect" not in path.parts]
    assert leftovers == []


def has_come_to(point: str, workspace: Path) -> bool:
    if point == "training":
        return any((workspace / "site-b").rglob("log.jsonl"))
    state = read_state(workspace / "runs" / "test")
    return state is not None and getattr(state, point) is not None


def wait_until(condition: object, run: subprocess.Popen[bytes], timeout_s: float = 180) -> None:
    assert callable(condition)
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert run.poll() is None, "the run ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.05)
