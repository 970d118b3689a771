"""Horovod of one rank, in the process of the test."""

from __future__ import annotations

import horovod.tensorflow as hvd
import pytest


def begin_one_rank(monkeypatch: pytest.MonkeyPatch) -> None:
    """Begin it, for the rest of the process: it does not begin a second time."""
    # MPI would leave its variables in this process, and what other tests start would take them up.
    for name in ("HOROVOD_CONTROLLER", "HOROVOD_CPU_OPERATIONS"):
        monkeypatch.setenv(name, "gloo")
    # Its thread shall seldom look for work.
    monkeypatch.setenv("HOROVOD_CYCLE_TIME", "10")
    hvd.init()
