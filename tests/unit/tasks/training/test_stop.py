from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from tasks.errors import ExitCode, RetryableFault
from tasks.training.rank_error import first_error
from tasks.training.stop import stopped

# A rank that is not told by Python's own handlers, because its main thread never comes back from a call.
RANK = """
import sys, threading
from pathlib import Path
from tasks.training.roll_call import RollCall
from tasks.training.stop import Stop

folder, mode, launcher = Path(sys.argv[1]), sys.argv[2], sys.argv[3] or None
stop = Stop(folder / "stop", folder / "errors", launcher, RollCall(folder / "roll"))
stop.listen()
def main():
    print("ready", flush=True)
    if mode == "looks":
        while stop.reason is None:
            threading.Event().wait(0.05)
        print(stop.reason, flush=True)
        __import__("os")._exit(0)
    threading.Event().wait(60)
if mode == "before":
    main()
with stop.stepping(1):
    main()
"""


def rank(folder: Path, mode: str, launcher: str = "") -> subprocess.Popen[str]:
    root = str(Path(__file__).parents[4])
    process = subprocess.Popen(
        [sys.executable, "-c", RANK, str(folder), mode, launcher],
        env={**os.environ, "PYTHONPATH": root},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def said(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.read().strip()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_is_told_to_the_training(number: signal.Signals, tmp_path: Path) -> None:
    with rank(tmp_path, "looks") as process:
        process.send_signal(number)
        assert said(process) == f"it got {number.name}"
    # What is left of its ranks is known by this.
    assert {path.name for path in (tmp_path / "roll").iterdir()} == {"rank-1.begun", "rank-1.ended"}


def test_the_word_and_the_end_of_the_launcher_are_heard(tmp_path: Path) -> None:
    with subprocess.Popen(["sleep", "60"]) as launcher:
        started = psutil.Process(launcher.pid).create_time()
        with rank(tmp_path, "looks", f"{launcher.pid}:{started}") as process:
            time.sleep(0.2)
            assert process.poll() is None
            launcher.kill()
            launcher.wait()
            assert said(process) == "its launcher has gone"
    with rank(tmp_path, "looks") as process:
        (tmp_path / "stop").touch()
        assert said(process) == "its launcher was told to stop"


def test_before_the_first_step_a_rank_ends_at_once_and_says_why(tmp_path: Path) -> None:
    with rank(tmp_path, "before") as process:
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == ExitCode.RETRY_LATER
    error = first_error(tmp_path / "errors")
    assert error is not None
    assert "was stopped (it got SIGTERM)" in error.cause


def test_a_rank_that_waits_for_a_failed_one_ends_at_once(tmp_path: Path) -> None:
    with rank(tmp_path, "stuck") as process:
        process.send_signal(signal.SIGTERM)
        time.sleep(0.5)
        assert process.poll() is None
        (tmp_path / "errors").mkdir()
        (tmp_path / "errors" / "rank-1-ab.json").write_text("{}")
        assert process.wait(10) == ExitCode.RETRY_LATER


def test_the_error_says_where_the_training_goes_on() -> None:
    error = stopped("it got SIGUSR1", epoch=3, step=7)
    assert isinstance(error, RetryableFault)
    assert error.exit_code == ExitCode.RETRY_LATER
    assert error.remedy == "start it again: it goes on at epoch 3, step 8"
