"""How many patches a second of processor time whole programs cut from one slide, CamNet among them.

    python3 -m venv peers && peers/bin/pip install hs2p lazyslide tiatoolbox
    .venv/bin/python benchmarks/programs.py --peers peers/bin/python --repeats 3 [--slide SLIDE]

Each program does what its documentation shows for one slide: find the tissue its own way, lay a grid of 224 px at
level 0 over it, and give the pixels. What they do with the pixels differs, and is said beside each: CamNet's whole job
also digests the slide, looks at every patch, writes the shard and draws the pictures, where LazySlide gives arrays that
are thrown away. Tissue masks differ too; so the rate is that of the patches that each program found. All programs take
turns in processes of their own; seconds are user and system time without imports. A program that is not installed, or
fails, is named. CLAM and TRIDENT have no package to install; histolab asks for a scikit-image that Python 3.11 has no
package of.
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
from collections import defaultdict
from pathlib import Path

HERE = Path(__file__).resolve().parent
PROGRAMS = {
    "camnet": "CamNet, a slide's whole job: digest, masks, dense raw shard, pictures",
    "hs2p": "hs2p tile_slides(save_tiles=True): a tar of JPEG files",
    "hs2p-openslide": "the same with its OpenSlide backend",
    "lazyslide": "LazySlide find_tissues, tile_tissues, iter.tile_images: arrays, not kept",
    "tiatoolbox": "tiatoolbox SlidingWindowPatchExtractor, Otsu mask: arrays, not kept",
}


def main() -> None:
    """Measure all programs in turn and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", type=Path, required=True, help="Python of the environment with the other programs")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--programs", default=",".join(PROGRAMS))
    parser.add_argument("--slide", type=Path, help="measure on this slide instead")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        slide = arguments.slide or _slide(Path(folder))
        measured: dict[str, list[dict[str, float]]] = defaultdict(list)
        missing: dict[str, str] = {}
        for _ in range(arguments.repeats):
            for name in arguments.programs.split(","):
                python = Path(sys.executable) if name == "camnet" else arguments.peers
                done = subprocess.run(
                    [str(python), str(HERE / "program_run.py"), name, str(slide), folder],
                    capture_output=True, text=True, check=False, env={**os.environ, "OMP_NUM_THREADS": "1"},
                )  # fmt: skip
                if done.returncode:
                    missing[name] = done.stderr.strip().splitlines()[-1][:120]
                else:
                    measured[name].append(json.loads(done.stdout.splitlines()[-1]))
        _print(slide, measured, missing)


def _slide(folder: Path) -> Path:
    sys.path.insert(0, str(HERE.parent))
    from benchmarks.benchmark_slide import write_benchmark_slide

    write_benchmark_slide(folder / "slide.tif")
    return folder / "slide.tif"


def _print(slide: Path, measured: dict[str, list[dict[str, float]]], missing: dict[str, str]) -> None:
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    print(f"{platform.platform()}, Python {platform.python_version()}, {os.cpu_count()} cores, load {load}")
    print(f"{slide.name}, {slide.stat().st_size / 1e6:.0f} MB\n")
    print(f"{'program':82} {'version':>10} {'patches':>7} {'a CPU s':>8} {'of ours':>7} {'wall s':>7}")
    for name, text in PROGRAMS.items():
        if name in missing:
            print(f"{text:82} not measured: {missing[name]}")
        if runs := measured.get(name):
            rates = [run["patches"] / run["cpu_s"] for run in runs]
            shares = [
                rate / (ours["patches"] / ours["cpu_s"]) for rate, ours in zip(rates, measured["camnet"], strict=False)
            ]
            share = f"{statistics.median(shares):7.2f}" if shares else " " * 7
            wall_s = statistics.median(run["wall_s"] for run in runs)
            patches, version = int(runs[0]["patches"]), str(runs[0]["version"])
            print(f"{text:82} {version:>10} {patches:7} {statistics.median(rates):8.0f} {share} {wall_s:7.1f}")


if __name__ == "__main__":
    main()
