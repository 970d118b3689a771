"""How long the demonstration takes and how much memory all its processes hold together.

    .venv/bin/python benchmarks/demo.py --repeats 3

Each repetition runs ``camnet demo`` in a new workspace: nothing is found finished. Memory is the proportional
set size (shared pages counted once) summed over the process and all its descendants, sampled twice a second.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import psutil

SAMPLE_S = 0.5


@dataclass(frozen=True)
class Measured:
    """One run of the demonstration."""

    wall_s: float
    peak_bytes: int
    stages_s: dict[str, float]
    patch_auc: float | None
    slide_auc: float | None


def main() -> None:
    """Run the demonstration several times and print what was measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    repeats = parser.parse_args().repeats
    print(f"machine: {os.cpu_count()} CPUs, {psutil.virtual_memory().total / 1e9:.0f} GB, {platform.platform()}")
    print(", ".join(f"{name} {version(name)}" for name in ("camnet", "tensorflow-cpu", "horovod", "prefect", "dask")))
    print(f"load at start: {os.getloadavg()[0]:.1f}")
    runs = [measure() for _ in range(repeats)]
    for name in runs[0].stages_s:
        print(f"{name:12} {statistics.median(run.stages_s[name] for run in runs):7.1f} s (median of {repeats})")
    walls = [run.wall_s for run in runs]
    print(f"{'whole':12} {statistics.median(walls):7.1f} s (median; {min(walls):.1f} to {max(walls):.1f})")
    print(f"{'peak memory':12} {max(run.peak_bytes for run in runs) / 1e9:7.2f} GB (largest)")
    print(f"patch AUC {[run.patch_auc for run in runs]}, slide AUC {[run.slide_auc for run in runs]}")


def measure() -> Measured:
    """Run the demonstration once in a workspace of its own."""
    with tempfile.TemporaryDirectory(prefix="camnet-benchmark-") as folder:
        command = [str(Path(sys.executable).with_name("camnet")), "demo", "--workspace", folder]
        environment = {name: value for name, value in os.environ.items() if name != "CAMNET_TEST_DATA"}
        started, peak = time.monotonic(), 0
        errors = Path(folder) / "errors.log"
        with errors.open("wb") as log:
            run = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=log)
            while run.poll() is None:
                peak = max(peak, tree_bytes(run.pid))
                time.sleep(SAMPLE_S)
        wall_s = time.monotonic() - started
        if run.returncode != 0:
            sys.exit(f"camnet demo ended with {run.returncode}: {errors.read_text()}")
        state = json.loads((Path(folder) / "runs" / "demo" / "run.json").read_text())
    evaluation = state["inferred"]["evaluation"]
    return Measured(
        wall_s=wall_s,
        peak_bytes=peak,
        stages_s={
            name: state[name]["seconds"] for name in ("preprocessed", "staged", "trained", "inferred", "explained")
        },
        patch_auc=evaluation["patch_auc"]["value"],
        slide_auc=evaluation["slide_auc"]["value"],
    )


def tree_bytes(pid: int) -> int:
    """Proportional set size of a process and its descendants."""
    try:
        process = psutil.Process(pid)
        family = [process, *process.children(recursive=True)]
    except psutil.Error:
        return 0
    return sum(_pss_bytes(member) for member in family)


def _pss_bytes(process: psutil.Process) -> int:
    try:
        return int(process.memory_full_info().pss)
    except (psutil.Error, OSError):
        return 0


if __name__ == "__main__":
    main()
