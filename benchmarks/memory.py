"""The most memory that a measuring process has had."""

from __future__ import annotations

from pathlib import Path


def peak_mb() -> float:
    """Most resident memory of this process since its program was started, in MB, as Linux counts it.

    ``getrusage`` is no use here: its peak is kept over ``exec``, so that a child of a large process seems never to
    need more than its parent had.
    """
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1.024e-3
    raise OSError("/proc/self/status has no VmHWM: memory is measured on Linux only")
