"""How a rank hears that it is to stop, also while it waits for the other ranks."""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from tasks.errors import ExitCode, RetryableFault
from tasks.training.rank_error import RankError, leave_error
from tasks.training.roll_call import RollCall

_SIGNALS = (signal.SIGTERM, signal.SIGUSR1)
_WATCH_S = 1.0
# A rank that was told to stop and could not come to an end in this time is ended; as long as a Slurm job waits.
_LONGEST_S = 300.0
_log = logging.getLogger("tasks.training")


class Stop:
    """Listens for SIGTERM and SIGUSR1, for the launcher's file, and for the launcher's own end.

    A thread of its own listens: the handlers of Python run in the main thread, which waits in Horovod when another rank
    is dead. Outside of `stepping` there is nothing to keep, so the process ends at once; and likewise when a rank has
    left an error, because then no step will ever end.

    Parameters
    ----------
    file
        Its appearance is the launcher's word to stop.
    errors_folder
        Where ranks leave the errors that ended them.
    launcher
        ``pid:start time`` of the process on this machine that started the training; None: it is elsewhere.
    roll
        Where this rank says that its steps begin, and that it has heard.
    """

    def __init__(self, file: Path, errors_folder: Path, launcher: str | None, roll: RollCall) -> None:
        self._file, self._errors, self._launcher, self._roll = file, errors_folder, launcher, roll
        self._rank: int | None = None
        self._reason: str | None = None
        self._is_stepping = False

    @property
    def reason(self) -> str | None:
        """Why to stop; None: go on."""
        return self._reason

    def listen(self) -> None:
        """Begin; before any library starts threads, because they must not take the signals."""
        signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        threading.Thread(target=self._listen, name="listen-for-stop", daemon=True).start()

    @contextmanager
    def stepping(self, rank: int) -> Iterator[None]:
        """While the block runs, the training itself looks at `reason`; `rank` is that of this process."""
        self._rank, self._is_stepping = rank, True
        self._roll.begins(rank)
        yield
        # An error that leaves the block is written down by whoever catches it.
        self._is_stepping = False

    def _listen(self) -> None:
        while self._reason is None:
            told = signal.sigtimedwait(_SIGNALS, _WATCH_S)
            self._reason = f"it got {signal.Signals(told.si_signo).name}" if told else self._heard()
        if self._rank is not None:
            # At once: who starts ranks gives those that are left few seconds when one has died.
            self._roll.ends(self._rank)
        _log.info("told to stop: %s", self._reason)
        deadline = time.monotonic() + _LONGEST_S
        while self._is_stepping and not self._another_failed() and time.monotonic() < deadline:
            time.sleep(_WATCH_S / 10)
        if not self._another_failed():
            leave_error(self._errors, RankError.of(stopped(self._reason), rank=self._rank or 0))
        os._exit(ExitCode.RETRY_LATER)

    def _heard(self) -> str | None:
        if self._file.exists():
            return "its launcher was told to stop"
        if self._launcher is not None and not _is_running(self._launcher):
            return "its launcher has gone"
        return None

    def _another_failed(self) -> bool:
        return any(self._errors.glob("rank-*.json"))


def stopped(reason: str, epoch: int | None = None, step: int = 0) -> RetryableFault:
    """Give the error of a training that was told to stop.

    Parameters
    ----------
    epoch, step
        Of the checkpoint that was written for it, if one was; `step` steps of the epoch are done.
    """
    if epoch is None:
        return RetryableFault(
            f"the training was stopped ({reason})", remedy="start it again: it goes on from its last checkpoint, if any"
        )
    return RetryableFault(
        f"the training was stopped ({reason}) and has written a checkpoint",
        remedy=f"start it again: it goes on at epoch {epoch}, step {step + 1}",
    )


def _is_running(launcher: str) -> bool:
    pid, started = launcher.split(":")
    try:
        return abs(psutil.Process(int(pid)).create_time() - float(started)) < 1.0
    except psutil.NoSuchProcess:
        return False
