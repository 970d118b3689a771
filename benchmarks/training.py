"""How fast training gets its input, and what that makes of a training; prints Markdown.

    .venv/bin/python benchmarks/training.py [--repeats 3] [--threads 2] [--only reader-raw h5py-rows …] [--folder F]

Four slides of 12,288 px are drawn, and patches of 224 px on a grid without overlap are cut out of them into shards of
each encoding, in the page cache when they are read. Every method runs in a process of its own, all methods in
turn, and the medians over the repetitions are printed. "a CPU s": a second of user and system time of all threads.
"MB +": most memory above that before the method began.

- reader-*: `read_batches` over `train_epoch` in batches of 64, nothing done with them, `--threads` threads, in the
  second epoch of a process; reader-tiles-8 and -32 with runs of 8 and 32 rows instead of 16
- random-raw: `Shard.read` into given memory, 64 rows at random each
- h5py-rows, h5py-list: a generator as users write it, batches of 64 of a permutation, row by row or with a list of rows
- train-*: training MobileNetV2 in batches of 32: "ours" is the step and reader of CamNet on one rank (no augmentation),
  "fit" is Keras' `fit` over the generator h5py-rows with its default compilation, "fit-no-xla" is the same without XLA
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

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))


from patches import known, processor

METHODS = (
    "reader-raw", "reader-jpeg", "reader-tiles", "reader-tiles-8", "reader-tiles-32", "random-raw", "h5py-rows",
    "h5py-list", "train-ours", "train-fit", "train-fit-no-xla",
)  # fmt: skip


def main() -> None:
    """Measure all methods in turn and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2, help="of the reader")
    parser.add_argument("--only", nargs="+", choices=METHODS, default=METHODS)
    parser.add_argument("--folder", type=Path, help="where slides and shards go; default: a temporary folder")
    parser.add_argument("--method", choices=METHODS, help="measure one method in this process and print JSON")
    given = parser.parse_args()
    if given.method:
        from training_methods import measure

        print(json.dumps(measure(given.method, given.folder, given.threads)))
        return
    with tempfile.TemporaryDirectory(prefix="camnet-benchmark-") as temporary:
        folder = given.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        from training_shards import make_shards

        make_shards(folder)
        _print_machine(given.threads)
        found: dict[str, list[dict[str, float]]] = defaultdict(list)
        for _ in range(given.repeats):
            for method in given.only:
                found[method].append(_run(method, folder, given.threads))
                print(f"{method}: {found[method][-1]}", file=sys.stderr, flush=True)
    _print_table(found)


def _run(method: str, folder: Path, threads: int) -> dict[str, float]:
    """Measure one method in a process of its own."""
    command = [sys.executable, __file__, "--method", method, "--folder", str(folder), "--threads", str(threads)]
    environment = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        raise SystemExit(f"{method} failed:\n{done.stderr}")
    measured: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return measured


def _print_machine(threads: int) -> None:
    names = ("tensorflow-cpu", "keras", "horovod", "h5py", "numpy", "simplejpeg")
    print(f"{os.cpu_count()} CPUs, {processor()}, {platform.platform()}; load at start {os.getloadavg()[0]:.1f}")
    versions = ", ".join(f"{name} {known(name)}" for name in names)
    print(f"Python {platform.python_version()}, {versions}; {threads} reader threads\n")


def _print_table(found: dict[str, list[dict[str, float]]]) -> None:
    print("| method | images | images a s | from … to | images a CPU s | waiting share | MB + |")
    print("|" + 7 * "---|")
    for method, rows in found.items():
        rates = [row["images"] / row["wall_s"] for row in rows]
        cpu = statistics.median(row["images"] / row["cpu_s"] for row in rows)
        waiting = statistics.median(row["waiting_s"] / row["wall_s"] for row in rows)
        share = f"{100 * waiting:.1f} %" if any("waiting_s" in row and row["waiting_s"] for row in rows) else ""
        peak_mb = statistics.median(row["peak_mb"] for row in rows)
        print(
            f"| {method} | {rows[0]['images']:,.0f} | {statistics.median(rates):,.0f} | "
            f"{min(rates):,.0f} … {max(rates):,.0f} | {cpu:,.0f} | {share} | {peak_mb:,.0f} |"
        )


if __name__ == "__main__":
    main()
