"""A tree of processes that surely ends: ``horovodrun`` starts its ranks in sessions of their own."""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import subprocess
import time
from pathlib import Path
from types import TracebackType

import psutil

LAUNCHER_VARIABLE = "CAMNET_LAUNCHER"
_MARK_VARIABLE = "CAMNET_PROCESS_TREE"
_GRACE_S = 5.0
_KILL_S = 15.0


class ProcessTree:
    """A command and all that descends from it, ended together when the block ends.

    Neither process groups nor parents hold such a tree together: descendants open sessions of their own
    and are adopted by init when their parent dies. What all of them inherit is the environment, so each
    tree carries a random mark in it, and the processes with this mark are the tree.

    A launcher that is killed cannot end anything; its process id and start time are in the environment
    too (`LAUNCHER_VARIABLE`), and ranks end themselves when it is gone.

    Parameters
    ----------
    command
        Argument list; no shell is involved.
    environment
        The whole environment.
    output
        File that receives all that the tree writes; it is appended to.
    """

    def __init__(self, command: list[str], environment: dict[str, str], output: Path) -> None:
        self._mark = secrets.token_hex(16)
        launcher = psutil.Process()
        marked = {
            **environment,
            _MARK_VARIABLE: self._mark,
            LAUNCHER_VARIABLE: f"{launcher.pid}:{launcher.create_time()}",
        }
        with output.open("ab") as file:
            self._process = subprocess.Popen(
                command, env=marked, stdin=subprocess.DEVNULL, stdout=file, stderr=file, start_new_session=True
            )

    def __enter__(self) -> ProcessTree:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()

    def returncode(self) -> int | None:
        """Exit code of the command, None while it runs."""
        return self._process.poll()

    def members(self) -> list[psutil.Process]:
        """All living processes of the tree."""
        return [process for process in psutil.process_iter() if self._is_member(process)]

    def end(self) -> None:
        """Ask all processes of the tree to end, and kill those that do not within five seconds."""
        self._signal(signal.SIGTERM)
        if not self._wait(_GRACE_S):
            deadline = time.monotonic() + _KILL_S
            while self.members() and time.monotonic() < deadline:
                # Again and again: a member may have started another one meanwhile.
                self._signal(signal.SIGKILL)
                time.sleep(0.05)
        self._process.wait()

    def _signal(self, number: signal.Signals) -> None:
        for process in self.members():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(number)

    def _wait(self, seconds: float) -> bool:
        deadline = time.monotonic() + seconds
        while self.members():
            if time.monotonic() > deadline:
                return False
            self._process.poll()
            time.sleep(0.05)
        return True

    def _is_member(self, process: psutil.Process) -> bool:
        try:
            return process.pid != os.getpid() and process.environ().get(_MARK_VARIABLE) == self._mark
        except psutil.Error:
            # Gone, a zombie, or another user's.
            return False
