r"""How near training's shuffle in blocks comes to a perfect one: what its batches are made of.

    .venv/bin/python benchmarks/shuffle.py [--slides 200] [--seeds 5] [--batch-size 64] [--ranks 1] \
        [--encodings raw tiles] [--run-rows 4] [--window-mb 512]

A cohort is drawn: half of the slides have 1,000 tumour and 1,000 normal patches, the others 1,000 normal ones, at
random places of a slide with one to four round lesions, in the order of the shards (along a Z-order curve). No pixel is
read.
Orders of the same rows take turns over the seeds, one epoch each: "raw" and "tiles" are `train_epoch` for shards of
these encodings (jpeg is as raw), "permutation" is perfect, "files" gives one shard after the other. The table has the
mean over the seeds, and their standard deviation:

- label_variance: of the share of tumour in a batch, over that of a perfect shuffle (hypergeometric); 1 is perfect
- label_lag1: correlation of that share with that of the next batch; 0 is perfect
- slides: distinct slides in a batch
- slides_again: share of the slides of a batch that the next batch has too
- neighbours: share of the rows that have one of the 16 rows before or behind them in the same batch

Whether a network learns as well from this order is not measured here.
"""

from __future__ import annotations

import argparse
import platform
import sys
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tasks.config import Encoding
from tasks.patches.curve import curve_order
from tasks.training.cohort import LabelledRows, ShardFacts
from tasks.training.epoch import RUN_ROWS, WINDOW_MB, train_epoch

Ints = NDArray[np.int64]
ENCODINGS: tuple[Encoding, ...] = ("raw", "jpeg", "tiles")
PATCH_PX = 224
SLIDE_PX = 60_000
ROWS_A_CLASS = 1_000
NEAR_ROWS = 16
MEASURES = ("label_variance", "label_lag1", "slides", "slides_again", "neighbours")


def drawn_cohort(slides: int, rng: np.random.Generator) -> LabelledRows:
    """Draw the rows of a cohort: every second slide has tumour."""
    labels = [_slide_labels(slide % 2 == 0, rng) for slide in range(slides)]
    sizes = [len(label) for label in labels]
    return LabelledRows(
        tuple(
            ShardFacts(Path(f"{slide}.h5"), "train", str(slide), PATCH_PX, 0.25, label)
            for slide, label in enumerate(labels)
        ),
        np.repeat(np.arange(slides), sizes),
        np.concatenate([np.arange(size) for size in sizes]),
        np.concatenate(labels),
    )


def in_encoding(rows: LabelledRows, encoding: Encoding) -> LabelledRows:
    """Give the same rows, as if their shards had another encoding."""
    return replace(rows, shards=tuple(replace(facts, encoding=encoding) for facts in rows.shards))


def _slide_labels(with_tumour: bool, rng: np.random.Generator) -> NDArray[np.int8]:
    lesions = int(rng.integers(1, 5)) if with_tumour else 0
    centre_px = rng.integers(0, SLIDE_PX, (lesions, 2))
    radius_px = rng.integers(2_000, 8_000, lesions)
    places_px = rng.integers(0, SLIDE_PX, (200_000, 2))
    away_px = np.linalg.norm(places_px[:, None] - centre_px[None], axis=2)
    tumour = (away_px < radius_px).any(axis=1)
    chosen = np.concatenate([np.flatnonzero(tumour)[:ROWS_A_CLASS], np.flatnonzero(~tumour)[:ROWS_A_CLASS]])
    x_px, y_px = places_px[chosen].T
    labels: NDArray[np.int8] = tumour[chosen][curve_order(x_px, y_px, PATCH_PX)].astype(np.int8)
    return labels


def batches_of(rows: LabelledRows, order: str, seed: int, options: argparse.Namespace) -> list[Ints]:
    """Give the rows of each batch of all ranks together, in the order of the steps."""
    ranks, batch_size = options.ranks, options.batch_size
    encoding = next((known for known in ENCODINGS if known == order), None)
    if encoding:
        encoded = in_encoding(rows, encoding)
        plans = [
            train_epoch(
                encoded,
                seed=seed,
                epoch=0,
                rank=rank,
                ranks=ranks,
                batch_size=batch_size,
                window_mb=options.window_mb,
                run_rows=options.run_rows,
            )
            for rank in range(ranks)
        ]
        parts = [np.split(plan.rows, np.cumsum(plan.batch_rows)[:-1]) for plan in plans]
        return [np.concatenate(step) for step in zip(*parts, strict=True)]
    sequence = np.arange(len(rows))
    if order == "permutation":
        sequence = np.random.default_rng(seed).permutation(sequence)
    return np.array_split(sequence, -(-len(rows) // (batch_size * ranks)))


def measured(rows: LabelledRows, batches: list[Ints]) -> list[float]:
    """Give `MEASURES` of one epoch."""
    total, share = len(rows), float(rows.label.mean())
    size = total / len(batches)
    perfect = share * (1 - share) / size * (total - size) / (total - 1)
    tumour = np.array([rows.label[batch].mean() for batch in batches])
    slides = [set(rows.shard[batch].tolist()) for batch in batches]
    again = [len(now & after) / len(now) for now, after in pairwise(slides)]
    return [
        float(((tumour - share) ** 2).mean()) / perfect,
        float(np.corrcoef(tumour[:-1], tumour[1:])[0, 1]),
        float(np.mean([len(found) for found in slides])),
        float(np.mean(again)),
        sum(_with_neighbour(rows, batch) for batch in batches) / total,
    ]


def _with_neighbour(rows: LabelledRows, batch: Ints) -> int:
    batch = np.sort(batch)
    near = (np.diff(batch) <= NEAR_ROWS) & (np.diff(rows.shard[batch]) == 0)
    return int((np.append(near, False) | np.insert(near, 0, False)).sum())


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--slides", type=int, default=200)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--ranks", type=int, default=1)
    parser.add_argument("--encodings", nargs="+", choices=ENCODINGS, default=["raw", "tiles"])
    parser.add_argument("--run-rows", type=int, help="default: those of the encoding")
    parser.add_argument("--window-mb", type=int, default=WINDOW_MB)
    options = parser.parse_args()
    rows = drawn_cohort(options.slides, np.random.default_rng(0))
    print(
        f"{len(rows):,} rows of {options.slides} slides, {rows.label.mean():.3f} tumour; "
        f"runs of {options.run_rows or RUN_ROWS} rows, windows of {options.window_mb} MB; "
        f"{options.ranks} x {options.batch_size} a batch; {options.seeds} seeds; "
        f"Python {platform.python_version()}, numpy {np.__version__}"
    )
    print("| order | " + " | ".join(MEASURES) + " |\n|---|" + "---|" * len(MEASURES))
    for order in (*options.encodings, "permutation", "files"):
        seeds = range(1 if order == "files" else options.seeds)
        found = np.array([measured(rows, batches_of(rows, order, seed, options)) for seed in seeds])
        cells = [
            f"{mean:.3f} ± {spread:.3f}" for mean, spread in zip(found.mean(axis=0), found.std(axis=0), strict=True)
        ]
        print(f"| {order} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
