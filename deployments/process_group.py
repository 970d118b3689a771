"""Servers of our own: processes that end with us, whatever becomes of us."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from typing import IO


def start_group(
    command: Sequence[str], output: IO[bytes] | int, environment: dict[str, str] | None = None
) -> subprocess.Popen[bytes]:
    """Start a process that leads its own session, listens to SIGINT and does not outlive us.

    Prefect turns SIGTERM into SIGINT, which a process that was started in the background would ignore.
    """
    return subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        env=environment,
        start_new_session=True,
        preexec_fn=_prepare_child,
    )


def stop_group(process: subprocess.Popen[bytes], grace_s: float = 10.0) -> None:
    """End a process that leads its own session, with all that it started."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
        except ProcessLookupError:
            break
        try:
            process.wait(grace_s)
        except subprocess.TimeoutExpired:
            continue
    process.wait()


def _prepare_child() -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)
    # A parent that is killed cannot stop its server; on Linux the kernel does (prctl, PR_SET_PDEATHSIG).
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGTERM)
