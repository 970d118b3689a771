"""The classes of dask-jobqueue for Slurm; importing them leaves Ctrl-C as it was.

Its module `dask_jobqueue.runner`, which we do not use, makes Ctrl-C end the whole process with exit code 0.
"""

from __future__ import annotations

import signal

_handler = signal.getsignal(signal.SIGINT)

from dask_jobqueue.slurm import SLURMCluster, SLURMJob  # noqa: E402  # between the two lines about the handler

signal.signal(signal.SIGINT, _handler)

__all__ = ["SLURMCluster", "SLURMJob"]
