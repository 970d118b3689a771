"""How many patches a second of processor time Layer 1 cuts and reads back, beside other readers.

    .venv/bin/python benchmarks/patches.py --repeats 3 [--slide SLIDE] [--folder FOLDER]

The slide is made when none is given: 40,000 px a side, tiles of 512 px, JPEG quality 80, 4:2:0, drawn tissue with the
noise of a scanner on about 30 % of it (some 150 MB, one minute). Each measurement is a process of its own; all methods
take turns, the repetitions one after the other, so that a slower machine is slower for all of them. Seconds are user
and system time of the process without its imports; beside them the wall time. "bound" is what cannot be avoided with
raw pixels and buffered writing: decode each tile once, copy its pixels, look at each patch once, write it.

All dense methods get the same positions; the other readers write with our writer and filter, so that only the reading
differs. Those that are not installed are left out: pip install tiffslide "pyvips[binary]" cucim-cu12.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import psutil

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

METHODS = {
    "bound": "what cannot be avoided (decode, copy, look, write)",
    "raw": "CamNet, encoding raw",
    "jpeg": "CamNet, encoding jpeg",
    "tiles": "CamNet, encoding tiles",
    "script": "a plain OpenSlide script: list, numpy filter, one dataset",
    "openslide": "OpenSlide, a patch at a time, our filter and writer",
    "openslide-rows": "OpenSlide, up to 16 patches of a row at a time",
    "tiffslide": "tiffslide, a patch at a time",
    "pyvips": "pyvips Region.fetch, a patch at a time",
    "cucim": "cuCIM with a cache of 512 MB, a patch at a time",
    "random": "CamNet, raw, 5,000 random patches",
    "random-openslide": "OpenSlide, 5,000 random patches",
    "job": "CamNet, a slide's whole job: digest, masks, dense raw, pictures",
    "read-raw": "read back raw, random batches of 64",
    "read-jpeg": "read back jpeg, random batches of 64",
    "read-tiles": "read back tiles, random stretches of 64",
}
NEEDS = {"tiffslide": "tiffslide", "pyvips": "pyvips", "cucim": "cucim"}


def main() -> None:
    """Measure all methods in turn and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--slide", type=Path, help="measure on this slide instead")
    parser.add_argument("--folder", type=Path, help="where the slide and the shards go; default: a temporary folder")
    parser.add_argument("--method", choices=METHODS, help="measure one method in this process and print JSON")
    parser.add_argument("--plot", type=Path, help="draw the rates of cutting into this PNG")
    given = parser.parse_args()
    if given.method:
        from patch_methods import measure

        sys.stdout.write(json.dumps(measure(given.method, given.slide, given.folder)) + "\n")
        return
    with tempfile.TemporaryDirectory(prefix="camnet-benchmark-") as temporary:
        folder = given.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        found = compare(given.slide or made_slide(folder), folder, given.repeats)
    if given.plot:
        draw(found, given.plot)


def made_slide(folder: Path) -> Path:
    """Make the benchmark's slide, once a folder."""
    from benchmark_slide import write_benchmark_slide

    path = folder / "benchmark-slide.tif"
    if not path.is_file():
        print(f"making {path} …", flush=True)
        write_benchmark_slide(path)
    return path


def compare(slide: Path, folder: Path, repeats: int) -> dict[str, list[dict[str, float]]]:
    """Run every method `repeats` times, in turn; print and give what was measured."""
    methods = [name for name in METHODS if name not in NEEDS or importlib.util.find_spec(NEEDS[name])]
    print_machine(slide)
    found: dict[str, list[dict[str, float]]] = defaultdict(list)
    for _ in range(repeats):
        for name in methods:
            found[name].append(run(name, slide, folder))
    print_table(found)
    return found


def draw(found: dict[str, list[dict[str, float]]], path: Path) -> None:
    """Draw the dense methods' rates as bars on a scale of powers of ten, whiskers from the least to the most."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    shown = [name for name in found if not name.startswith(("read", "random", "job"))]
    shown.sort(key=lambda name: statistics.median(rates_of(found[name])))
    figure, axes = plt.subplots(figsize=(9, 0.42 * len(shown) + 1.1), layout="constrained")
    for place, name in enumerate(shown):
        rates = rates_of(found[name])
        middle = statistics.median(rates)
        colour = "#2a6496" if name in ("raw", "jpeg", "tiles") else "#b0b7c0"
        axes.barh(place, middle, color=colour, xerr=[[middle - min(rates)], [max(rates) - middle]], ecolor="#444444")
        axes.text(max(rates) * 1.06, place, f"{middle:,.0f}", va="center", fontsize=9)
    axes.set_yticks(range(len(shown)), [METHODS[name] for name in shown], fontsize=9)
    axes.set_xscale("log")
    axes.set_xlim(100, 300_000)
    axes.set_xlabel("patches of 224 px a second of processor time (dense, level 0)")
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=110)


def rates_of(rows: list[dict[str, float]]) -> list[float]:
    """Patches a CPU second of each repetition."""
    return [row["patches"] / row["cpu_s"] for row in rows]


def run(method: str, slide: Path, folder: Path) -> dict[str, float]:
    """Measure one method in a process of its own."""
    command = [sys.executable, __file__, "--method", method, "--slide", str(slide), "--folder", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{method} failed:\n{done.stderr}")
    measured: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return measured


def print_machine(slide: Path) -> None:
    """Say what was measured on."""
    names = ("camnet", "openslide-python", "openslide-bin", "simplejpeg", "h5py", "numpy", "tiffslide", "pyvips")
    print(f"machine: {os.cpu_count()} CPUs, {psutil.virtual_memory().total / 1e9:.0f} GB, {platform.platform()}")
    print(f"processor: {processor()}; load at start: {os.getloadavg()[0]:.1f}")
    print(f"Python {platform.python_version()}, " + ", ".join(f"{name} {known(name)}" for name in names))
    print(f"slide: {slide.name}, {slide.stat().st_size / 1e6:.0f} MB")


def processor() -> str:
    """Name of the processor."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def known(package: str) -> str:
    """Version of a package."""
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def print_table(found: dict[str, list[dict[str, float]]]) -> None:
    """Print the medians, and ratios within each repetition."""
    head = {"method": 58, "patches": -8, "a CPU s": -9, "of bound": -9, "x script": -8}
    head |= {"wall s": -7, "B/patch": -8, "MB +": -6}
    print("\n" + " ".join(f"{name:<{width}}" if width > 0 else f"{name:>{-width}}" for name, width in head.items()))
    for name, rows in found.items():
        rates = rates_of(rows)
        print(
            f"{METHODS[name]:58} {rows[0]['patches']:8.0f} {statistics.median(rates):9.0f} "
            f"{ratio(found, name, 'bound'):>9} {ratio(found, name, 'script'):>8} "
            f"{statistics.median(row['wall_s'] for row in rows):7.2f} {rows[0]['bytes_a_patch']:8.0f} "
            f"{max(row['peak_mb'] for row in rows):6.0f}"
        )
    print(
        "\nmedian of each; 'a CPU s': patches a second of user and system time; 'MB +': most memory above that of the"
    )
    print("interpreter with its imports; ratios are medians of the ratios within one repetition")
    print(f"load at end: {os.getloadavg()[0]:.1f}, {time.strftime('%Y-%m-%d')}")


def ratio(found: dict[str, list[dict[str, float]]], name: str, other: str) -> str:
    """Rate of a method over that of another one; only where both cut the same patches."""
    if name.startswith(("read", "random", "job")) or other not in found:
        return ""
    pairs = zip(found[name], found[other], strict=True)
    ratios = [(a["patches"] / a["cpu_s"]) / (b["patches"] / b["cpu_s"]) for a, b in pairs]
    return f"{statistics.median(ratios):.2f}"


if __name__ == "__main__":
    main()
