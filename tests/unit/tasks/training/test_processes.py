from __future__ import annotations

import contextlib
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from tasks.training import processes
from tasks.training.processes import LAUNCHER_VARIABLE, ProcessTree

# A command that starts a child in a session of its own which ignores SIGTERM, says both ids, and ends or waits.
FAMILY = """
import os, signal, subprocess, sys, time
code = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('ready', flush=True); time.sleep(600)"
child = subprocess.Popen([sys.executable, "-c", code], start_new_session=True, stdout=subprocess.PIPE)
child.stdout.readline()
print(os.getpid(), child.pid, flush=True)
if sys.argv[1] == "waits":
    time.sleep(600)
"""


@pytest.fixture(autouse=True)
def short_grace(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stubborn processes are killed after half a second instead of five."""
    monkeypatch.setattr(processes, "_GRACE_S", 0.5)


def started(tree: ProcessTree, output: Path) -> list[int]:
    deadline = time.monotonic() + 20
    while not output.read_text().endswith("\n"):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return [int(word) for word in output.read_text().split()]


def alive(pid: int) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    return False


@pytest.mark.parametrize("parent", ["waits", "ends"])
def test_a_stubborn_grandchild_in_its_own_session_is_ended(parent: str, tmp_path: Path) -> None:
    output = tmp_path / "output"
    with ProcessTree([sys.executable, "-c", FAMILY, parent], {"PATH": "/usr/bin"}, output) as tree:
        own, child = started(tree, output)
        assert alive(child)
        assert child in [member.pid for member in tree.members()]
    assert not alive(own)
    assert not alive(child)


def test_an_interruption_ends_the_tree(tmp_path: Path) -> None:
    output = tmp_path / "output"
    pids: list[int] = []

    def interrupted() -> None:
        with ProcessTree([sys.executable, "-c", FAMILY, "waits"], {"PATH": "/usr/bin"}, output) as tree:
            pids.extend(started(tree, output))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert len(pids) == 2
    assert not any(alive(pid) for pid in pids)


def test_other_processes_are_left_alone(tmp_path: Path) -> None:
    with subprocess.Popen(["sleep", "60"]) as bystander:
        with ProcessTree(["sleep", "60"], {"PATH": "/usr/bin:/bin"}, tmp_path / "output") as tree:
            assert len(tree.members()) == 1
        assert bystander.poll() is None
        bystander.kill()


def test_the_tree_knows_its_launcher(tmp_path: Path) -> None:
    output = tmp_path / "output"
    code = f"import os; print(os.environ[{LAUNCHER_VARIABLE!r}], flush=True)"
    with ProcessTree([sys.executable, "-c", code], {}, output) as tree:
        while tree.returncode() is None:
            time.sleep(0.02)
    pid, created = output.read_text().strip().split(":")
    assert int(pid) == psutil.Process().pid
    assert float(created) == pytest.approx(psutil.Process().create_time())
