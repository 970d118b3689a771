"""What a second worker of Layer 1 costs in processor time, and what it saves in wall time.

    .venv/bin/python benchmarks/workers.py --repeats 3 [--slide SLIDE] [--stride-px 80] [--folder FOLDER]

One large slide is preprocessed whole by one worker, in parts by one, and in parts by two; then two slides, whole, by
one worker and by two. Each measurement is `camnet preprocess` in a new workspace, on a Dask LocalCluster, with the
dense grid of every slide; all cases take turns, the repetitions one after the other. Processor seconds are user and
system time of the command with all its processes (Prefect's server, the scheduler, the workers, and their start);
"wall" is that of the stage, from opening the cluster to the manifest. Ratios are medians of the ratios within one
repetition. The slide is that of `benchmarks/patches.py` when none is given; the default stride makes 12 times as many
patches of it as a grid without overlap would have.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

PATCH_PX = 224


@dataclass(frozen=True)
class Case:
    """So many slides, each in so many parts, for so many workers."""

    slides: int
    parts: int
    workers: int

    @property
    def name(self) -> str:
        """For the table."""
        cut = f"{self.parts} parts" if self.parts > 1 else "whole"
        return f"{self.slides} slide{'s' * (self.slides > 1)}, {cut}, {self.workers} worker{'s' * (self.workers > 1)}"


@dataclass(frozen=True)
class Measured:
    """One run. Processor and wall seconds as told above; the load average is that of the last minute, after it."""

    cpu_s: float
    wall_s: float
    command_s: float
    patches: int
    load: float


def main() -> None:
    """Measure all cases in turn and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--slide", type=Path, help="measure on this slide instead")
    parser.add_argument("--stride-px", type=int, default=64, help="step of the dense grid")
    parser.add_argument("--encoding", default="jpeg", choices=("raw", "jpeg", "tiles"))
    parser.add_argument("--parts", type=int, default=6, help="parts of the large slide")
    parser.add_argument("--folder", type=Path, help="where slide and workspaces go; default: a temporary folder")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="camnet-benchmark-") as temporary:
        folder = given.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        from patches import made_slide, print_machine

        slide = given.slide or made_slide(folder)
        print_machine(slide)
        print(", ".join(f"{name} {version(name)}" for name in ("prefect", "prefect-dask", "dask", "distributed")))
        print(f"patches of {PATCH_PX} px, stride {given.stride_px} px, encoding {given.encoding}, level 0")
        compare(slide, folder, given)


def compare(slide: Path, folder: Path, given: argparse.Namespace) -> None:
    """Run every case `repeats` times, in turn, and print what was measured."""
    whole, alone, together = Case(1, 1, 1), Case(1, given.parts, 1), Case(1, given.parts, 2)
    one, two = Case(2, 1, 1), Case(2, 1, 2)
    found: dict[Case, list[Measured]] = {case: [] for case in (whole, alone, together, one, two)}
    for _ in range(given.repeats):
        for case, measured in found.items():
            measured.append(measure(case, slide, folder, given))
            last = measured[-1]
            print(f"{case.name}: CPU {last.cpu_s:.1f} s, wall {last.wall_s:.1f} s, load {last.load:.1f}", flush=True)
    print(f"\n{'case':34} {'patches':>8} {'CPU s':>7} {'wall s':>7} {'command s':>9}  load")
    for case, measured in found.items():
        columns = zip(*((m.cpu_s, m.wall_s, m.command_s) for m in measured), strict=True)
        middle = [statistics.median(values) for values in columns]
        loads = " ".join(f"{m.load:.1f}" for m in measured)
        print(f"{case.name:34} {measured[0].patches:8} {middle[0]:7.1f} {middle[1]:7.1f} {middle[2]:9.1f}  {loads}")
    print(f"\nmedian of {given.repeats}")
    for name, before, after in (
        ("parts instead of the whole, 1 worker", whole, alone),
        ("large slide in parts, 1 -> 2 workers", alone, together),
        ("large slide: whole, 1 -> parts, 2", whole, together),
        ("2 slides, 1 -> 2 workers", one, two),
    ):
        pairs = list(zip(found[before], found[after], strict=True))
        cpu = statistics.median(b.cpu_s / a.cpu_s for a, b in pairs)
        wall = statistics.median(a.wall_s / b.wall_s for a, b in pairs)
        print(f"{name:38} processor time {100 * (cpu - 1):+5.1f} %, wall {wall:4.2f} times as fast")
    print(f"load at end: {os.getloadavg()[0]:.1f}, {time.strftime('%Y-%m-%d')}, {platform.node()}")


def measure(case: Case, slide: Path, folder: Path, given: argparse.Namespace) -> Measured:
    """Run `camnet preprocess` in a workspace of its own."""
    with tempfile.TemporaryDirectory(prefix="workers-", dir=folder) as temporary:
        workspace = Path(temporary)
        config = write_files(case, slide, workspace, given)
        command = [str(Path(sys.executable).with_name("camnet")), "preprocess", "-c", str(config), "-w", str(workspace)]
        started = time.monotonic()
        with (workspace / "output").open("wb") as output, (workspace / "errors").open("wb") as errors:
            run = subprocess.Popen(command, stdout=output, stderr=errors)
            _, status, usage = os.wait4(run.pid, 0)
        run.returncode = os.waitstatus_to_exitcode(status)
        if run.returncode:
            raise SystemExit(f"{case.name}:\n{(workspace / 'errors').read_text()}")
        made = json.loads((workspace / "output").read_text())
        return Measured(
            cpu_s=usage.ru_utime + usage.ru_stime,
            wall_s=made["seconds"],
            command_s=time.monotonic() - started,
            patches=sum(one["grid_patches"] for one in made["outcomes"]),
            load=os.getloadavg()[0],
        )


def write_files(case: Case, slide: Path, workspace: Path, given: argparse.Namespace) -> Path:
    """Write the configuration, the sites and the slides of one run."""
    slides, sites = workspace / "slides", workspace / "sites"
    slides.mkdir()
    sites.mkdir()
    for number in range(case.slides):
        shutil.copyfile(slide, slides / f"slide_{number}{slide.suffix}")
    (sites / "site-a.toml").write_text(f'name = "site-a"\nroot = "site-a"\n[dask]\nworkers = {case.workers}\n')
    (sites / "site-b.toml").write_text('name = "site-b"\nroot = "site-b"\n')
    config = workspace / "run.toml"
    config.write_text(
        f'sites = "sites"\n[cohort]\nslides = "slides"\n[preprocess]\nencoding = "{given.encoding}"\n'
        f"patch_px = {PATCH_PX}\ngrid_stride_px = {given.stride_px}\ngrid_min_tissue_fraction = 0.5\n"
        f"grid_part_positions = {-(-positions(slide, given.stride_px) // case.parts)}\n"
        'grid_splits = ["train", "validation", "test"]\n'
    )
    return config


def positions(slide: Path, stride_px: int) -> int:
    """Positions of the dense grid, on tissue or not."""
    from tasks.patches.sampling import grid_shape
    from tasks.slides.reader import open_slide

    with open_slide(slide, None) as reader:
        rows, columns = grid_shape(*reader.dimensions_px, PATCH_PX, stride_px)
    return rows * columns


if __name__ == "__main__":
    main()
